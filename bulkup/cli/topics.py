"""What `bulkup help TOPIC` says."""

from __future__ import annotations

TOPICS = {
    "exit-codes": (
        "Exit codes",
        """
    0  done, all entities handled
    1  failed: too many failures (--max-failures), an updater that cannot be loaded, or an error
       that ended the run; also when a question was answered with no
    2  wrong usage: an option, a parameter or the configuration is not valid
    3  done, but some entities failed (within the budget; `bulkup plan`: some would fail)
    4  `bulkup verify`: an entity is not done; `bulkup status --check`: a migration is pending or
       wrong; `bulkup migrate`: the file of an applied one is missing; `bulkup diff`: the sides
       differ; `bulkup run --until-clean`: the last pass still wrote something;
       `bulkup rehearse`: a crash changes the outcome, `idempotent = True` is not true, or no
       entity was there to handle
   10  no such updater, run, migration, folder or namespace pattern
   11  another process holds this run
   12  cancelled (`bulkup cancel`) after a clean checkpoint; resume continues
   75  stopped at a limit (--limit, --max-time, --max-hold); resume continues
  130  interrupted (Ctrl-C) after a clean checkpoint; resume continues
  143  terminated (SIGTERM), the same

A code that is not listed means failure. In scripts, 0 is the only one that says that all is done;
12, 75, 130 and 143 say that `bulkup resume` has something left to do.
""",
    ),
    "targets": (
        "Which Datastore a command works on",
        """
The strongest of these decides; every command says in its first line where it works:

  --local FILE       the embedded Datastore in FILE; nothing leaves this machine
  --target NAME      a target from the configuration file (bulkup help config)
  --project ID       a Google Cloud project, or that project on an emulator
  (nothing)          the configuration file, then what google.cloud.datastore.Client() would use:
                     GOOGLE_CLOUD_PROJECT, or the project of your gcloud credentials

DATASTORE_EMULATOR_HOST=host:port sends everything but --local to an emulator. --database and
--namespace choose within the project; --all-namespaces and --namespaces 'tenant-*' work in several.

  bulkup run -n full_name.py --local shop.db
  bulkup run -n full_name.py --target prod --namespace tenant-7

`bulkup resume` works where the run has worked. `confirm = true` at a target in the configuration
file makes every run on it ask, or need --yes.
""",
    ),
    "parameters": (
        "Parameters of updaters",
        """
A function's keyword-only arguments are parameters, and so are a class's param() attributes:

  @bulkup.updater(kind="Person")
  def full_name(person, *, sep: str = " ", before: date | None = None): ...

  bulkup params full_name.py                        what it takes: types, defaults, help
  bulkup run -n full_name.py -p sep=- -p before=2024-01-31
  bulkup migrate -p 0001_full_name:sep=-            of a migration

Values are read by the annotation: str, int, float, bool (true, false), date, datetime,
enums, Literal, lists (a,b,c; [] is empty), and `| None`. Only a string may be empty. None is typed
as @none, and as none where the type is not a string; it is shown as @none. Quote what the shell
would change: -p 'sep= '.

A run keeps its parameters: `bulkup resume` uses them again. The same updater with other parameters
is another run.
""",
    ),
    "conditions": (
        "Conditions of --where",
        """
  bulkup count --kind Person --where "age > 30 AND country IN ('CH', 'AT')"
  bulkup run -n full_name.py --where "name = 'Ada'" --ancestor "KEY(Customer, 5)"

  = != < <= > >=  IN (...)  NOT IN (...)  CONTAINS  IS NULL  AND  OR  ( )
  __key__ HAS ANCESTOR KEY(Customer, 5)

Values: 5, 2.5, 'text' or "text", TRUE, FALSE, NULL, DATETIME('2026-11-28T09:00:00Z'),
KEY(Customer, 5, Order, 'A-1'), KEY(NAMESPACE('x'), ...), BLOB('aGk'); ARRAY(1, 2) after IN.
Backquotes hold a name that is not a plain word: `first name` = 'Ada'.

Only indexed properties match. Values compare by type: 30 is not 30.0, and `age > 30` also matches
strings, which come after all integers; `age > 30 AND age < 1000` does not. <, <=, >, >=, != and
NOT IN read in the order of the property: one shard, resumed only with its own state directory.
""",
    ),
    "config": (
        "The configuration file",
        """
[tool.bulkup] in pyproject.toml, or bulkup.toml with the same keys at the top level:

  [tool.bulkup]
  migrations = "db/migrations"        # folder of migrations
  max_failures = 10                   # any option that several commands have, by its long name
  email_to = ["team@example.com"]

  [tool.bulkup.targets.prod]          # --target prod
  project = "shop-prod"               # also database, namespace, local
  confirm = true                      # ask before each run; elsewhere --yes is needed

  [tool.bulkup.migration_params.0003_delete_old]
  before = "2024-01-01"

  [tool.bulkup.prices]                # of `bulkup plan`; or reads, writes, deletes: of 100,000
  region = "us-central1"

The nearest file counts, from the current directory up to the root of the repository or your home
directory; BULKUP_CONFIG names another one. What is typed wins over the environment, and that over
the file. Paths are relative to the file. No secrets: the password of the mail server is read from
BULKUP_SMTP_PASSWORD.

  bulkup config                       what is in force, and where each value comes from
""",
    ),
    "environment": (
        "Environment variables",
        """
  BULKUP_RUN_BATCH_SIZE, ...   any option of a command: BULKUP_<COMMAND>_<OPTION>
  BULKUP_BATCH_SIZE, ...       the same for every command that shares the option
  BULKUP_MIGRATIONS            the folder of migrations
  BULKUP_CONFIG                the configuration file; /dev/null: none
  BULKUP_SMTP_PASSWORD         the password of the mail server in --smtp
  DATASTORE_EMULATOR_HOST      host:port of an emulator
  GOOGLE_CLOUD_PROJECT, GOOGLE_APPLICATION_CREDENTIALS   as Google's libraries read them

What is typed wins over the environment. -p is BULKUP_RUN_PARAM, with one NAME=VALUE a line.
""",
    ),
    "json": (
        "Output for programs",
        """
With --json a command prints one JSON object a line on standard output, and nothing else there;
whatever user code prints goes to standard error. Each line has `type`, `version`, `time` and
`run_id`. The schema is in the package: bulkup/report/schema.json.

  bulkup run full_name.py --json | jq -r 'select(.type == "summary") | .state'
  bulkup run full_name.py -n --json | jq -c 'select(.type == "change")'

The `summary` of a run has its state, exit_code, counts, and next_steps: the commands to type next.
Ignore fields and types that you do not know; new ones are added without a new version.
""",
    ),
    "completion": (
        "Completion in your shell",
        """
It completes commands, options, updaters (also the names in a file, after the colon), runs,
migrations and targets. It runs none of your code. Add one line to your shell's start file:

  bash   ~/.bashrc                     eval "$(_BULKUP_COMPLETE=bash_source bulkup)"
  zsh    ~/.zshrc                      eval "$(_BULKUP_COMPLETE=zsh_source bulkup)"
  fish   ~/.config/fish/config.fish    _BULKUP_COMPLETE=fish_source bulkup | source

and open a new shell. bash needs version 4.4 or later.
""",
    ),
}
"""By name: the title and the text."""
