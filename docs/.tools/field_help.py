"""The fields of `ScanConfig` in the guide: their help texts and defaults, which stand in the code as options."""

from typing import Any

import griffe

from backscan.scanner.choices import told
from backscan.scanner.config import OPTIONS


class FieldHelp(griffe.Extension):
    """Reads the text of a field where the command line does."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Called by griffe for every attribute that it finds."""
        if attr.path == f"backscan.scanner.config.ScanConfig.{attr.name}" and attr.name in OPTIONS:
            option = OPTIONS[attr.name]
            attr.value = repr(option.default)
            attr.docstring = griffe.Docstring(f"`{option.flag}`: {told(option)}", parent=attr)
