"""Reports: tables and pictures of a study, for people."""

from headwise.reports._comparison import compare
from headwise.reports._comparison import Comparison
from headwise.reports._contributions import mean_contributions
from headwise.reports._over_time import curves_picture
from headwise.reports._over_time import heads_picture
from headwise.reports._parallel import parallel_picture
from headwise.reports._pictures import front_picture
from headwise.reports._pictures import weights_picture
from headwise.reports._responses import responses_picture
from headwise.reports._summary import summary
from headwise.reports._tables import sweep_table
from headwise.reports._verdict import verdict
from headwise.reports._write import write_report

__all__ = (
    "Comparison",
    "compare",
    "curves_picture",
    "front_picture",
    "heads_picture",
    "mean_contributions",
    "parallel_picture",
    "responses_picture",
    "summary",
    "sweep_table",
    "verdict",
    "weights_picture",
    "write_report",
)
