"""Every setting of gra_train: name, type, unit, bounds, default and help. The one source; conf/ only sets values.

The defaults are the papers' where a paper states one. `gra-train config --schema` prints this as a table.
"""

from gra_train.schema.baselines import Baselines
from gra_train.schema.data import FORMATS, DataFile
from gra_train.schema.experiment import Arm, Cluster, Compare, Config, Evaluation, Resources, Tracking
from gra_train.schema.models import DTYPES, Model, Pool, Serve
from gra_train.schema.quality import Quality
from gra_train.schema.synthesis import Decontaminate, Dedup, Review, Synthesis
from gra_train.schema.training import SCHEDULES, Collate, Lora, Preference, Train

__all__ = [
    "DTYPES",
    "FORMATS",
    "SCHEDULES",
    "Arm",
    "Baselines",
    "Cluster",
    "Collate",
    "Compare",
    "Config",
    "DataFile",
    "Decontaminate",
    "Dedup",
    "Evaluation",
    "Lora",
    "Model",
    "Pool",
    "Preference",
    "Quality",
    "Resources",
    "Review",
    "Serve",
    "Synthesis",
    "Tracking",
    "Train",
]
