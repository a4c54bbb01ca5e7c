"""Sweeps: designs of loss weights, trials that share one program, their records."""

from headwise._program import Program
from headwise._provenance import made_with
from headwise._records import append
from headwise._records import halved
from headwise._records import identity
from headwise._records import Record
from headwise._records import record
from headwise.sweeps._cohort._memory_faults import out_of_memory
from headwise.sweeps._design._designs import grid
from headwise.sweeps._design._designs import log_grid
from headwise.sweeps._design._designs import rows
from headwise.sweeps._design._designs import simplex
from headwise.sweeps._design._draws import dirichlet
from headwise.sweeps._design._draws import latin
from headwise.sweeps._design._draws import sobol
from headwise.sweeps._design._product import trials
from headwise.sweeps._design._tables import table
from headwise.sweeps._design._trials import Trial
from headwise.sweeps._search._halving import Halving
from headwise.sweeps._search._halving import halving
from headwise.sweeps._search._search import Search
from headwise.sweeps._search._search import search
from headwise.sweeps._slopes._slopes import slopes
from headwise.sweeps._slopes._turns import Slopes
from headwise.sweeps._store._export import to_csv
from headwise.sweeps._store._export import to_pandas
from headwise.sweeps._store._export import to_parquet
from headwise.sweeps._store._read import curves
from headwise.sweeps._store._read import read
from headwise.sweeps._store._status import status
from headwise.sweeps._store._study import StudyError
from headwise.sweeps._work._prepared import check
from headwise.sweeps._work._run import read_trials
from headwise.sweeps._work._run import run
from headwise.sweeps._work._verified import Verified
from headwise.sweeps._work._verify import verify
from headwise.sweeps._work._watch import describe
from headwise.sweeps._work._watch import watch

__all__ = (
    "Halving",
    "Program",
    "Record",
    "Search",
    "Slopes",
    "StudyError",
    "Trial",
    "Verified",
    "append",
    "check",
    "curves",
    "describe",
    "dirichlet",
    "grid",
    "halved",
    "halving",
    "identity",
    "latin",
    "log_grid",
    "made_with",
    "out_of_memory",
    "read",
    "read_trials",
    "record",
    "rows",
    "run",
    "search",
    "simplex",
    "slopes",
    "sobol",
    "status",
    "table",
    "to_csv",
    "to_pandas",
    "to_parquet",
    "trials",
    "verify",
    "watch",
)
