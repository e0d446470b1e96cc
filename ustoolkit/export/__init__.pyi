from .exports import ExportSettings as ExportSettings
from .exports import export_runs as export_runs
from .formats import FORMATS as FORMATS
from .formats import Format as Format
from .parity import Parity as Parity
from .parity import measure_parity as measure_parity
from .saved_model import write_saved_model as write_saved_model
