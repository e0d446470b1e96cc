from .audit_page import write_audit as write_audit
from .clean_preview import write_preview as write_preview
from .diagnosis_plots import write_plots as write_plots
from .explained_images import explain_images as explain_images
from .explanation import explain_layers as explain_layers
from .figure_files import write_figure as write_figure
from .html import write_report as write_report
