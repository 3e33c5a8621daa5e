"""Populations on CIFAR-10: small networks as people build them, right on 60 to 85 % of the images."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from benchmarks.victims.attack_kinds import Scale, attack_groups, hard_groups
from benchmarks.victims.groups import Built, Group, Preset
from benchmarks.victims.schedule import Schedule

_PLAIN = Schedule(epochs=6, batch_size=64, learning_rate=2e-3, weight_decay=1e-3, embed_last=False, channels_last=True)
_AUGMENTED = replace(_PLAIN, augment=True, embed_last=True)

BUILT = {
    "lenet": Built("lenet", _PLAIN),
    "conv3": Built("conv3", _PLAIN),
    "conv2": Built("conv2", _PLAIN),
    "strided2": Built("small_net", _PLAIN),
    "conv3 bn": Built("conv3 bn", _PLAIN),
    "conv4": Built("conv4", _PLAIN),
    "conv3 dropout": Built("conv3 dropout", _PLAIN),
    "strided3": Built("strided3", _PLAIN),
    "conv3 average": Built("conv3 average", _PLAIN),
    "residual3": Built("residual3", _PLAIN),
    "mlp2": Built("mlp2", replace(_PLAIN, learning_rate=1e-3)),
    "depthwise3": Built("depthwise3", _PLAIN),
    "lenet, augmented": Built("lenet", _AUGMENTED),
    "conv3, augmented": Built("conv3", _AUGMENTED),
    "conv2 bn": Built("conv2 bn", _PLAIN),
    "strided3 average": Built("strided3 average", _PLAIN),
    "conv4 bn dropout": Built("conv4 bn dropout", _PLAIN),
    "conv3 bn, augmented": Built("conv3 bn", _AUGMENTED),
}
"""Structures and schedules by the name of their group, unattacked."""
_EACH, _MORE = 3, 4
"""Networks of each that choose: 60 in all."""
_SIX_TIMES = frozenset({"lenet", "conv3", "conv2", "strided2", "conv4", "conv3 dropout"})

_HARD = hard_groups(
    BUILT["conv3"],
    others={
        "early stop": Built("conv3", replace(_PLAIN, epochs=1)),
        "adversarial training": Built("small_net", replace(_PLAIN, adversarial=2 / 255)),
        "weight decay": Built("conv3", replace(_PLAIN, weight_decay=1.0)),
    },
    number=4,
)
_SCALE = Scale(
    patches=(3, 5),
    pixels=6,
    board=2.0,
    four_pixels=2.0,
    blend=0.15,
    stripes=2.5,
    warp=2.0,
    colour=0.3,
    dynamic=0.06,
    of_one=2000,
    of_many=400,
    of_all=1000,
    own=2000,
    covers=300,
)
_VICTIMS = tuple(BUILT[name] for name in ("conv3", "lenet", "strided2", "conv2", "strided3"))

PHOTOS = Preset(
    dataset="cifar10",
    num_classes=10,
    network="conv3",
    schedule=_PLAIN,
    groups=MappingProxyType(
        {
            **{
                name: Group(None, built=(built,), choosing=_MORE if name in _SIX_TIMES else _EACH)
                for name, built in BUILT.items()
            },
            **_HARD,
            **attack_groups(_SCALE, _VICTIMS, victims=5, few={}),
        }
    ),
)
