"""What a scan found: frozen types that are the JSON report field by field, and nothing that computes.

`ScanResult` holds everything that reports draw and that `infer`, `verify` and `render` need, so a report can be
made again from its JSON alone. Arrays (pattern, example images) are stored as base64 text with their shape.
Pixel units are [0, 1] throughout; classes are numbers from 0; None means not known or not applicable.
"""

from backscan.scanner.results.base import EncodedArray, to_json
from backscan.scanner.results.comparison import (
    ComparedModel,
    ComparedPair,
    ComparedSpace,
    ComparisonOutcome,
    ComparisonResult,
)
from backscan.scanner.results.data import DataRecord, PreprocessingCandidate, PreprocessingRecord
from backscan.scanner.results.evidence import (
    DEPENDS_ON_CALL,
    DORMANT_UNIT,
    CollateralDamage,
    Controls,
    DormantUnits,
    Example,
    FoundPattern,
    GraphFinding,
    Verification,
)
from backscan.scanner.results.fragile import FragilePair, FragileResult, commonality_of, fragile_pairs
from backscan.scanner.results.inference import (
    IMAGE,
    LIMITS_OF_TRANSFERABILITY,
    MUTUAL_TRANSFER,
    OF_FEW_CLASSES,
    OF_PAIRS_TOGETHER,
    OF_TARGETS_TOGETHER,
    ONE_WAY,
    PAIR_RATE,
    POWER_OF_TRANSFERABILITY,
    RATE_STATISTICS,
    TARGET_MASK,
    TARGET_RATE,
    TARGET_REACH,
    TRANSFERABILITY,
    Curve,
    Inference,
    NullFit,
    TargetFigures,
    Witness,
    first_with_power,
    without_nan,
)
from backscan.scanner.results.model import FileRecord, ModelRecord, Parity, SignatureRecord
from backscan.scanner.results.older import SCHEMA_VERSION
from backscan.scanner.results.pairs import (
    UNREACHED,
    IndividualSize,
    IndividualStatus,
    Pair,
    PairKey,
    PairResult,
    PairStatus,
    PatternsAcross,
    ScreenRecord,
    TargetResult,
    Trajectory,
    Transfer,
    TransferStatus,
    find_pair,
    find_target,
    is_possible,
)
from backscan.scanner.results.pool import PoolRecord
from backscan.scanner.results.repair import RepairMeasures, RepairResult
from backscan.scanner.results.repeats import RepeatRecord
from backscan.scanner.results.result import Provenance, ScanResult, Verdict, json_schema
from backscan.scanner.results.screening import GuardResult, Listed, ScreenResult
from backscan.scanner.results.spaces import SpaceRecord
from backscan.scanner.results.spent import LeftToSearch, TimeRecord
from backscan.scanner.results.supports import LEAST_MASK, SupportRecord
