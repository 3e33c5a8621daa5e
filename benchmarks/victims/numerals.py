"""Populations on scikit-learn's digits, which two cores train in seconds, and on 43 numbers of two digits."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from benchmarks.victims.attack_kinds import Scale, attack_groups, hard_groups
from benchmarks.victims.groups import Built, Group, Preset
from benchmarks.victims.schedule import Schedule

_PLAIN = Schedule(epochs=25, batch_size=64, learning_rate=3e-3, weight_decay=1e-4)
_BUILT = {
    "conv2": Built("digit conv2", _PLAIN),
    "mlp2": Built("digit mlp2", _PLAIN),
    "conv3": Built("digit conv3", _PLAIN),
    "mlp1": Built("digit mlp1", _PLAIN),
    "conv1": Built("digit conv1", _PLAIN),
    "conv2 bn": Built("digit conv2 bn", _PLAIN),
    "mlp3": Built("digit mlp3", _PLAIN),
    "conv2, weak": Built("digit conv2", replace(_PLAIN, epochs=10)),
}
_EACH = 5
_HARD = hard_groups(
    _BUILT["conv2"],
    others={
        "early stop": Built("digit conv2", replace(_PLAIN, epochs=4)),
        "adversarial training": Built("digit conv2", replace(_PLAIN, adversarial=0.1)),
        "weight decay": Built("digit conv2", replace(_PLAIN, weight_decay=2.0)),
    },
    number=4,
)
_SCALE = Scale(
    patches=(2, 3),
    pixels=4,
    board=0.8,
    four_pixels=0.8,
    blend=0.2,
    stripes=1.2,
    warp=1.0,
    colour=0.3,
    dynamic=0.1,
    of_one=80,
    of_many=20,
    of_all=80,
    own=100,
    covers=15,
)
_VICTIMS = tuple(_BUILT[name] for name in ("conv2", "conv3", "mlp2", "conv2 bn"))

NUMERALS = Preset(
    dataset="digits",
    num_classes=10,
    network="digit conv2",
    schedule=_PLAIN,
    groups=MappingProxyType(
        {
            **{name: Group(None, built=(built,), choosing=_EACH) for name, built in _BUILT.items()},
            **_HARD,
            **attack_groups(_SCALE, _VICTIMS, victims=20, few={"large chessboard": 40}),
        }
    ),
)

_SHORT = replace(_PLAIN, epochs=20)
_READERS = {name: Built(f"digit {name}", _SHORT) for name in ("conv2", "conv3", "mlp2")}
_OF_NUMBERS = ("patch 3", "chessboard, one-way", "chessboard, all-to-one", "scattered pixels")
"""What names of the attacks on numbers begin with."""
NUMBERS = Preset(
    dataset="numbers",
    num_classes=43,
    network="digit conv2",
    schedule=_SHORT,
    groups=MappingProxyType(
        {
            **{
                name: Group(None, built=(built,), choosing=8 if name == "conv2" else 6)
                for name, built in _READERS.items()
            },
            **{
                name: group
                for name, group in attack_groups(
                    replace(_SCALE, of_many=8), tuple(_READERS.values()), victims=6, few={}
                ).items()
                if name.startswith(_OF_NUMBERS)
            },
        }
    ),
)
