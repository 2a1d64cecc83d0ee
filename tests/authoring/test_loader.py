"""Finding an updater from what a user types. Every file here is really imported."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from bulkup import BulkDelete
from bulkup.authoring.function_updater import FunctionUpdater
from bulkup.authoring.loader import UpdaterSource, load, make
from bulkup.authoring.parameters import convert
from bulkup.core.errors import Exit, NotFoundError, ParameterError, UpdaterError, UsageError
from bulkup.testing import handle, offline_client

pytestmark = pytest.mark.sampled(5)

FIX = '''
from bulkup import Updater

class Fix(Updater):
    """Fix things.

    More about it.
    """

    def get_query(self):
        return self.client.query(kind="Thing")

    def handle_entity(self, entity):
        self.put(entity)
'''
FUNCTION = '''
import bulkup

@bulkup.updater(kind="Thing")
def fix(entity, *, sep: str = "-"):
    """Fix things."""
    return entity
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory of the test, without a trace of it in later ones, or of earlier ones
    of other files in it."""
    monkeypatch.chdir(tmp_path)
    _forget_modules(tmp_path.parent)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    _forget_modules(tmp_path)


def _forget_modules(folder: Path) -> None:
    for name, module in list(sys.modules.items()):
        where = f"{getattr(module, '__file__', '')} {getattr(module, '__path__', '')}"
        if str(folder) in where:
            del sys.modules[name]


def write(name: str, text: str | bytes = FIX) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path.absolute()


# --- what is found ---------------------------------------------------------------------------


def test_a_file_with_one_updater_class_needs_no_name() -> None:
    path = write("fix.py")
    source = load("fix.py")
    assert source.name == "Fix"
    assert source.description == "Fix things."
    assert source.path == str(path)
    assert source.checksum == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.spec == f"{path}:Fix"
    assert source.parameters == ()


def test_a_decorated_function_is_found_and_stays_a_function() -> None:
    write("fix.py", FUNCTION)
    source = load("fix.py")
    assert (source.name, source.description) == ("fix", "Fix things.")
    assert not isinstance(source.definition, type)
    assert source.definition("anything") == "anything"
    assert [p.name for p in source.parameters] == ["sep"]


@pytest.mark.parametrize("spec", ["fix.py:Fix", "./fix.py:Fix", "fix:Fix", "fix"])
def test_every_form_of_spec_finds_the_same_updater(spec: str) -> None:
    path = write("fix.py")
    assert load(spec).spec == f"{path}:Fix"


def test_the_spec_of_a_source_finds_it_from_another_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("one/fix.py")
    monkeypatch.chdir(folder / "one")
    first = load("fix.py")
    monkeypatch.chdir("/")
    again = load(first.spec)
    assert (again.path, again.checksum, again.spec) == (first.path, first.checksum, first.spec)


def test_a_module_in_a_package_is_found_by_its_dotted_name_and_again_by_its_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("acme_pkg/__init__.py", "")
    write("acme_pkg/words.py", "WORD = 'hello'")
    path = write("acme_pkg/jobs.py", "from .words import WORD\n" + FIX)
    source = load("acme_pkg.jobs:Fix")
    assert source.spec == f"{path}:Fix"
    monkeypatch.chdir("/")
    assert load(source.spec).definition is source.definition


def test_relative_imports_work_for_a_file_in_a_package() -> None:
    write("acme_rel/__init__.py", "")
    write("acme_rel/deep/__init__.py", "")
    write("acme_rel/words.py", "WORD = 'hello'")
    write("acme_rel/deep/jobs.py", "from ..words import WORD\n" + FIX)
    assert load("acme_rel/deep/jobs.py").name == "Fix"


def test_a_folder_without_init_works_by_dotted_name_with_relative_imports() -> None:
    write("plain_folder/words.py", "WORD = 'hello'")
    write("plain_folder/jobs.py", "from .words import WORD\n" + FIX)
    source = load("plain_folder.jobs")
    assert source.spec == "plain_folder.jobs:Fix"
    assert load(source.spec).checksum == source.checksum


def test_a_relative_import_outside_a_package_says_how_to_run() -> None:
    write("jobs.py", "from .words import WORD\n" + FIX)
    with pytest.raises(UpdaterError, match=r"package\.module:Name"):
        load("jobs.py")


def test_a_package_whose_init_defines_the_updater_is_found() -> None:
    path = write("acme_init/__init__.py")
    assert load("acme_init").spec == f"{path}:Fix"
    assert load(f"{path}:Fix").name == "Fix"


def test_imported_bases_do_not_count() -> None:
    write("fix.py", "from bulkup import BulkPut, BulkDelete, Updater, updater\n" + FIX)
    assert load("fix.py").name == "Fix"


def test_a_base_in_the_same_file_that_cannot_run_does_not_count() -> None:
    write(
        "fix.py",
        "import abc, bulkup\n"
        "class Base(bulkup.Updater):\n"
        "    def handle_entity(self, entity): self.put(entity)\n"
        "class Abstract(bulkup.Updater, abc.ABC):\n"
        "    def get_query(self): ...\n"
        "    def handle_entity(self, entity): ...\n"
        "    @abc.abstractmethod\n"
        "    def kind(self): ...\n"
        "class _Private(Base):\n"
        "    def get_query(self): ...\n"
        "class Fix(_Private):\n"
        "    pass\n"
        "Alias = Fix\n",
    )
    assert load("fix.py").name == "Fix"
    assert load("fix.py:_Private").name == "_Private"


def test_an_alias_can_be_named() -> None:
    write("fix.py", FIX + "\nOther = Fix\n")
    assert load("fix.py").name == "Fix"
    assert load("fix.py:Other").spec.endswith(":Other")


def test_a_named_updater_may_be_imported_and_its_own_file_is_what_counts() -> None:
    real = write("acme_re/cities.py")
    init = write("acme_re/__init__.py", "from .cities import Fix")
    source = load("acme_re:Fix")
    assert source.path == str(real)
    assert source.checksum == hashlib.sha256(real.read_bytes()).hexdigest()
    assert source.spec == f"{init}:Fix"


def test_odd_objects_at_module_level_are_not_updaters() -> None:
    write(
        "fix.py",
        "from unittest.mock import MagicMock\n"
        "mock, spec = MagicMock(), MagicMock(spec=type)\n"
        "class Angry:\n"
        "    touched = []\n"
        "    def __getattr__(self, name): self.touched.append(name); raise RuntimeError\n"
        "angry = Angry()\n" + FIX,
    )
    source = load("fix.py")
    assert source.name == "Fix"
    module: Any = sys.modules[source.definition.__module__]
    assert module.Angry.touched == []


def test_a_class_without_a_docstring_has_no_description() -> None:
    write("fix.py", FIX.replace('"""Fix things.', '""').replace('    More about it.\n    """', ""))
    assert load("fix.py").description == ""


# --- names that lie --------------------------------------------------------------------------


@pytest.mark.parametrize("stem", ["json", "click", "bulkup", "email", "typing", "__main__"])
def test_a_file_named_like_a_module_neither_hides_it_nor_is_hidden(stem: str) -> None:
    path = write(f"{stem}.py", "import json, click\nassert json.loads and click.echo\n" + FIX)
    before = sys.modules.get(stem)
    source = load(f"{stem}.py")
    assert source.path == str(path)
    if before is not None:
        assert sys.modules[stem] is before
    assert sys.modules["json"] is json
    assert sys.modules["click"] is click


def test_a_standard_module_imported_later_is_not_the_users_file() -> None:
    write("colorsys.py")
    write("fix.py")
    # A script elsewhere, like the installed command; `python -c` would put this folder first.
    script = write(
        "bin/script.py",
        "from bulkup.authoring.loader import load; load('fix.py'); load('colorsys.py')\n"
        "import colorsys; colorsys.rgb_to_hsv(0, 0, 0)",
    )
    subprocess.run([sys.executable, script], check=True, env=_environment(), timeout=60)


def test_an_installed_module_imported_later_by_bulkup_is_not_the_users_file() -> None:
    for name in ("rich", "tenacity", "grpc", "google"):
        write(f"{name}.py")
    script = write(
        "bin/script.py",
        "from bulkup.authoring.loader import load\n"
        "load('rich.py'); load('grpc.py'); load('google.py')\n"
        "import grpc, rich.console, tenacity, google.cloud.datastore\n"
        "grpc.insecure_channel, tenacity.retry",
    )
    subprocess.run([sys.executable, script], check=True, env=_environment(), timeout=60)


def test_a_project_wins_over_its_installed_copy() -> None:
    write("bin/site-packages/acme_stale.py", "WORD = 'stale'")
    write("acme_stale.py", "WORD = 'mine'")
    write("fix.py", "from acme_stale import WORD\nassert WORD == 'mine'\n" + FIX)
    script = write(
        "bin/script.py",
        "import os, sys\n"
        "sys.path.append(os.path.join(os.path.dirname(__file__), 'site-packages'))\n"
        "from bulkup.authoring.loader import load; load('fix.py')\n",
    )
    subprocess.run([sys.executable, script], check=True, env=_environment(), timeout=60)


def _environment() -> dict[str, str]:
    import bulkup

    return {**os.environ, "PYTHONPATH": str(Path(inspect.getfile(bulkup)).parents[1])}


def test_a_local_file_wins_over_the_standard_module_of_its_dotted_name() -> None:
    path = write("json.py")
    assert load("json:Fix").path == str(path)


@pytest.mark.parametrize(
    "name",
    ["with space.py", "a:b.py",
     "a.py:b.py", "ünï.py", "two.dots.py", "-n.py", "new\nline.py", "[red].py",
     "class.py", "x'; rm -rf y.py", "\udcff.py", "9.py", "$(id).py"],
)  # fmt: skip
def test_hostile_file_names_load(name: str) -> None:
    path = os.path.abspath(name)
    with open(path, "w") as file:
        file.write(FIX + "\nimport dataclasses\n@dataclasses.dataclass\nclass A:\n    n: int = 1\n")
    for spec in (name, f"{name}:Fix", path):
        source = load(spec)
        assert source.path == path
    assert load(source.spec).spec == source.spec


def test_hostile_file_names_are_escaped_in_messages() -> None:
    with pytest.raises(NotFoundError) as caught:
        load("evil\x1b[31m\nname.py")
    assert caught.value.message.isprintable()


def test_two_files_with_the_same_stem_are_two_updaters() -> None:
    write("one/fix.py", FIX.replace("Fix things", "First"))
    write("two/fix.py", FIX.replace("Fix things", "Second"))
    one, two, again = load("one/fix.py"), load("two/fix.py"), load("one/fix.py")
    assert [s.description for s in (one, two, again)] == ["First.", "Second.", "First."]


def test_a_changed_file_is_loaded_as_it_is_now() -> None:
    write("fix.py")
    first = load("fix.py")
    write("fix.py", FIX.replace("Fix things", "Mix things"))  # same size, same second
    second = load("fix.py")
    assert second.description == "Mix things."
    assert second.checksum != first.checksum
    assert not Path("__pycache__").exists()


def test_the_checksum_of_a_module_is_of_the_code_that_runs_not_of_a_later_edit() -> None:
    write("acme_edit/__init__.py", "")
    write("acme_edit/fix.py")
    first = load("acme_edit.fix")
    write("acme_edit/fix.py", FIX.replace("Fix things", "Mix many things"))
    for spec in ("acme_edit.fix", "acme_edit/fix.py"):
        again = load(spec)
        assert again.definition is first.definition  # Python imports a module once
        assert again.checksum == first.checksum


def test_pickle_dataclasses_and_typing_work_in_an_updater_module() -> None:
    write(
        "fix.py",
        "from __future__ import annotations\n"
        "import dataclasses, typing\n"
        "@dataclasses.dataclass\n"
        "class Point:\n"
        "    x: int\n"
        "    other: typing.ClassVar[int] = 1\n" + FIX,
    )
    module: Any = sys.modules[load("fix.py").definition.__module__]
    point = module.Point(3)
    assert pickle.loads(pickle.dumps(point)) == point
    assert inspect.getsource(module.Point).startswith("@dataclasses")


# --- what the file imports -------------------------------------------------------------------


def test_a_neighbour_is_importable_while_loading_and_later() -> None:
    write("jobs/neighbour_a.py", "WORD = 'a'")
    write("jobs/neighbour_b.py", "WORD = 'b'")
    write(
        "jobs/fix.py",
        "import neighbour_a\nimport bulkup\n"
        "@bulkup.updater(kind='A')\n"
        "def fix(entity):\n"
        "    import neighbour_b\n"
        "    return neighbour_a.WORD + neighbour_b.WORD\n",
    )
    definition: Any = load("jobs/fix.py").definition
    assert definition(None) == "ab"


def test_files_that_import_each_other_are_loaded_once() -> None:
    write("fix.py", "COUNT = []\nimport circular_helper\n" + FIX)
    write("circular_helper.py", "import fix\nfix.COUNT.append(1)\ndef late(): return fix.Fix\n")
    source = load("fix.py")
    module: Any = sys.modules[source.definition.__module__]
    assert module.COUNT == [1]
    assert sys.modules["circular_helper"].late() is source.definition


def test_a_circle_that_cannot_be_resolved_shows_both_files() -> None:
    write("fix.py", "from circular_other import thing\nname = 1\n" + FIX)
    write("circular_other.py", "from fix import name\nthing = 1\n")
    with pytest.raises(UpdaterError) as caught:
        load("fix.py")
    assert "fix.py" in caught.value.details
    assert "circular_other.py" in caught.value.details


def test_a_file_that_failed_leaves_no_half_module_behind() -> None:
    write("fix.py", "1 / 0\n" + FIX)
    with pytest.raises(UpdaterError):
        load("fix.py")
    assert not [name for name in sys.modules if name == "fix" or "_bulkup_fix" in name]
    write("fix.py")
    assert load("fix.py").name == "Fix"


# --- errors ----------------------------------------------------------------------------------


def refused(spec: str, error: type[Exception], *says: str) -> Any:
    with pytest.raises(error) as caught:
        load(spec)
    assert type(caught.value) is error
    exc: Any = caught.value
    for part in says:
        assert part in exc.message, exc.message
    assert exc.message.isprintable()
    return exc


def test_a_missing_file_suggests_the_one_that_was_meant() -> None:
    write("jobs/cities.py")
    exc = refused("jobs/citys.py", NotFoundError, "no file jobs/citys.py", "jobs/cities.py?")
    assert exc.exit_code == Exit.NOT_FOUND
    refused("jobs/cities", NotFoundError, "jobs/cities.py?")
    refused("job/cities.py", NotFoundError, "no folder job")
    refused("nothing_like_it.py:Fix", NotFoundError, "current directory")
    refused("jobs/cities.py/x.py", NotFoundError, "no folder")


def test_a_missing_module_suggests_the_one_that_was_meant() -> None:
    write("acme_missing/__init__.py", "")
    write("acme_missing/cities.py")
    refused("acme_missing.citys:Fix", NotFoundError, "acme_missing.cities?")
    refused("acme_mising.cities", NotFoundError, "did you mean acme_missing.cities?")
    refused("acme_mising", NotFoundError, "acme_missing?")
    refused("acme_missing.cities.more", NotFoundError, "no module")


def test_a_missing_name_lists_what_is_there() -> None:
    write("fix.py", FIX + FUNCTION)
    refused("fix.py:Fixx", NotFoundError, "no Fixx in fix.py", "fix.py:Fix, fix.py:fix",
            "did you mean Fix")  # fmt: skip
    write("empty.py", "")
    refused("empty.py:Fix", NotFoundError, "has no updater")


def test_a_file_without_updaters_says_how_to_write_one() -> None:
    write("empty.py", "from bulkup import BulkDelete, Updater\n")
    exc = refused("empty.py", NotFoundError, "no updater in empty.py", "@bulkup.updater")
    assert exc.exit_code == Exit.NOT_FOUND


def test_imported_updaters_must_be_named() -> None:
    write("fix.py")
    write("use.py", "from fix import Fix\n")
    refused("use.py", NotFoundError, "use.py:Fix")
    assert load("use.py:Fix").name == "Fix"


def test_several_updaters_are_listed_ready_to_type() -> None:
    write("my fixes.py", FIX + FUNCTION)
    exc = refused("my fixes.py", UsageError, "'my fixes.py:Fix'", "'my fixes.py:fix'")
    assert exc.exit_code == Exit.USAGE


def test_a_name_that_is_not_an_updater_says_what_it_is() -> None:
    write("fix.py", "def plain(entity): ...\nclass Plain: ...\nnone = None\n")
    refused("fix.py:plain", UsageError, "plain in fix.py is a function", "@bulkup.updater")
    refused("fix.py:Plain", UsageError, "subclass of bulkup.Updater")
    refused("fix.py:none", UsageError, "NoneType")


def test_a_missing_method_is_named() -> None:
    write("fix.py", FIX.replace("get_query", "getquery"))
    refused("fix.py", UsageError, "Fix in fix.py has no get_query")
    refused("fix.py:Fix", UsageError, "Fix in fix.py has no get_query")
    refused("fix.py", UsageError, "but getquery", "is it meant to be get_query?")
    write("fix.py", "import bulkup\nclass Fix(bulkup.Updater):\n    knd = 'Person'\n")
    refused("fix.py", UsageError, "has no get_query and no kind, but knd", "meant to be kind?")
    write("fix.py", "import bulkup\nclass Fix(bulkup.Updater): pass\n")
    refused("fix.py", UsageError, 'write kind = "Person", or a get_query that returns')
    write("fix.py", FIX.replace("handle_entity", "handle_entiy"))
    refused("fix.py", UsageError, "but handle_entiy", "meant to be handle_entity?")
    write("fix.py", FIX.replace("handle_entity", "handle"))
    refused("fix.py", UsageError, "has no handle_entity")
    refused("bulkup:BulkDelete", UsageError, "has no get_query")


def test_a_syntax_error_names_the_line() -> None:
    write("fix.py", "\n\ndef broken(:\n")
    exc = refused("fix.py", UpdaterError, "cannot be loaded: line 3 is not valid Python")
    assert "def broken(:" in exc.details
    write("use.py", "import fix\n" + FIX)
    refused("use.py", UpdaterError, "use.py cannot be loaded: line 3 of", "fix.py is not valid")
    assert exc.exit_code == Exit.FAILED


@pytest.mark.parametrize("text", [b"word = '\xff\xfe'\n", b"x = 1\0\n", b"# coding: klingon\n"])
def test_a_file_that_is_not_text_is_a_user_error(text: bytes) -> None:
    write("fix.py", text + FIX.encode())
    refused("fix.py", UpdaterError, "fix.py cannot be loaded")


def test_a_declared_encoding_is_honoured() -> None:
    write("fix.py", "# -*- coding: latin-1 -*-\n'''é'''\n".encode("latin-1") + FIX.encode())
    assert load("fix.py").name == "Fix"


def test_a_failing_import_shows_the_users_frames_alone() -> None:
    write("fix.py", "import broken_helper\n" + FIX)
    write("broken_helper.py", "def f():\n    return {}['nothing']\nf()\n")
    exc = refused("fix.py", UpdaterError, "fix.py cannot be loaded: KeyError: 'nothing'")
    frames = [line for line in exc.details.splitlines() if line.startswith("  File")]
    assert len(frames) == 3
    assert "fix.py" in frames[0]
    assert "return {}['nothing']" in exc.details
    assert "importlib" not in exc.details
    assert "bulkup/" not in exc.details
    assert isinstance(exc.__cause__, KeyError)


def test_a_missing_dependency_is_named() -> None:
    write("fix.py", "import pandaz\n" + FIX)
    refused("fix.py", UpdaterError, "No module named 'pandaz'", "install pandaz")
    write("acme_dep/__init__.py", "import pandaz")
    write("acme_dep/fix.py")
    refused("acme_dep.fix", UpdaterError, "install pandaz")


def test_a_misused_decorator_points_at_the_line() -> None:
    write("fix.py", "import bulkup\n@bulkup.updater\ndef fix(entity): ...\n")
    exc = refused("fix.py", UsageError, '@bulkup.updater(kind="...")')
    assert "fix.py" in exc.details
    assert "line 2" in exc.details or "line 3" in exc.details  # Python 3.10 takes the def's


def test_a_script_that_exits_when_imported_is_refused() -> None:
    write("fix.py", FIX + "\nimport sys\nsys.exit('bye')\n")
    exc = refused("fix.py", UpdaterError, "SystemExit: bye", '__name__ == "__main__"')
    assert "sys.exit('bye')" in exc.details


def test_ctrl_c_while_importing_passes_through() -> None:
    write("fix.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load("fix.py")
    assert "fix" not in sys.modules


def test_a_folder_lists_the_files_in_it() -> None:
    write("jobs/cities.py")
    refused("jobs/", UsageError, "is a folder", "jobs/cities.py")
    refused("jobs", UsageError, "is a folder", "jobs.cities")
    refused(".", UsageError, "is a folder", "(none)")


def test_other_files_than_python_files_are_refused() -> None:
    write("fix.txt")
    refused("fix.txt", UsageError, "not a Python file")
    refused("fix.txt:Fix", UsageError, "not a Python file")
    write("Makefile")
    refused("Makefile", UsageError, "not a Python file")
    refused("sys:Fix", UsageError, "no Python source")
    refused("__main__:Fix", NotFoundError)


def test_a_pipe_is_refused_instead_of_blocking() -> None:
    os.mkfifo("pipe.py")
    refused("pipe.py", UsageError, "not a regular file")


def test_a_broken_link_and_a_loop_of_links_are_refused() -> None:
    os.symlink("nothing.py", "dangling.py")
    os.symlink("loop.py", "loop.py")
    refused("dangling.py", NotFoundError, "a link to nothing.py, which does not exist")
    refused("loop.py", UsageError, "cannot read loop.py")
    refused("x" * 300 + ".py", UsageError, "cannot read")


def test_an_unreadable_file_says_why(folder: Path) -> None:
    write("fix.py").chmod(0)
    if os.geteuid() != 0:
        refused("fix.py", UsageError, "cannot read fix.py (Permission denied)")
        return
    folder.chmod(0o755)
    os.seteuid(65534)  # root can read everything, so try as another user
    try:
        refused("fix.py", UsageError, "cannot read fix.py (Permission denied)")
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "name an updater"),
        ("a\0b.py", "name an updater"),
        (":Fix", "does not say where"),
        ("fix.py:", "nothing after the colon"),
        ("fix.py:not-a-name", "not-a-name after the colon"),
    ],
)
def test_an_invalid_spec_shows_a_valid_form(spec: str, says: str) -> None:
    write("fix.py")
    refused(spec, UsageError, says)


# --- updaters that would not do what they say ------------------------------------------------


def test_async_handlers_are_updaters() -> None:
    write("fix.py", FIX.replace("def handle_entity", "async def handle_entity"))
    assert load("fix.py").name == "Fix"
    write("fix.py", FUNCTION.replace("def fix", "async def fix"))
    assert load("fix.py").name == "fix"
    write("fix.py", FUNCTION.replace("def fix", "async def fix").replace("return", "yield"))
    assert load("fix.py").name == "fix"


def test_an_async_handler_method_that_yields_or_gets_a_batch_is_refused() -> None:
    write(
        "fix.py",
        FIX.replace("def handle_entity", "async def handle_entity").replace(
            "self.put(entity)", "yield entity"
        ),
    )
    refused("fix.py", UsageError, "handle_entity yields", "self.put")
    write("fix.py", FIX.replace("def handle_entity", "async def handle_batch"))
    refused("fix.py", UsageError, "Fix.handle_batch is async")
    write("fix.py", FIX.replace("def get_query", "async def get_query"))
    refused("fix.py", UsageError, "Fix.get_query is async")


@pytest.mark.parametrize("concurrency", ["0", "True", "'many'"])
def test_how_many_entities_an_async_handler_takes_is_a_number(concurrency: str) -> None:
    source = FIX.replace("def get_query", f"concurrency = {concurrency}\n\n    def get_query")
    write("fix.py", source)
    assert load("fix.py").name == "Fix"  # an attribute of the user's own
    write("fix.py", source.replace("def handle_entity", "async def handle_entity"))
    refused("fix.py", UsageError, f"concurrency of Fix is {concurrency}")


def test_a_handler_method_that_yields_is_refused_because_it_would_never_run() -> None:
    write("fix.py", FIX.replace("self.put(entity)", "yield entity"))
    refused("fix.py", UsageError, "handle_entity yields", "self.put")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "no argument for the entity"),
        ("*, entity", "no argument for the entity"),
        ("*entities", "no argument for the entity"),
        ("entity, sep", "(entity, *, sep)"),
        ("entity, sep=' '", "(entity, *, sep)"),
        ("entity, *more", "*more"),
        ("entity, *, sep='', **more", "**more"),
    ],
)
def test_arguments_that_cannot_be_parameters_are_refused(arguments: str, says: str) -> None:
    write("fix.py", FUNCTION.replace('entity, *, sep: str = "-"', arguments).replace(
        "return entity", "pass"))  # fmt: skip
    refused("fix.py", UsageError, says)


def test_a_wrapped_function_has_the_arguments_of_the_one_it_wraps() -> None:
    write(
        "fix.py",
        "import functools\n"
        "def logged(f):\n"
        "    @functools.wraps(f)\n"
        "    def call(*args, **kwargs): return f(*args, **kwargs)\n"
        "    return call\n" + FUNCTION.replace("def fix", "@logged\ndef fix"),
    )
    assert [p.name for p in load("fix.py").parameters] == ["sep"]


def test_an_init_with_arguments_is_refused() -> None:
    write("fix.py", FIX + "\n    def __init__(self, sep): self.sep = sep\n")
    refused("fix.py", UsageError, "Fix.__init__", "bulkup.param()")


@pytest.mark.parametrize("value", ["'3'", "-2", "True", "1.5", "'101%'", "'%'", "None"])
def test_an_invalid_failure_budget_is_refused(value: str) -> None:
    write("fix.py", FIX + f"\n    max_failures = {value}\n")
    refused("fix.py", UsageError, "max_failures of Fix")
    write("fix.py", FUNCTION.replace('kind="Thing"', f'kind="Thing", max_failures={value}'))
    refused("fix.py", UsageError, "max_failures of fix")


# --- make ------------------------------------------------------------------------------------


def ready(source: UpdaterSource, **values: Any) -> Any:
    return make(source, convert(source, values))


def test_a_function_gets_its_parameters_as_arguments() -> None:
    write("fix.py", FUNCTION)
    updater = ready(load("fix.py"), sep="+")
    assert isinstance(updater, FunctionUpdater)
    assert updater.arguments == {"sep": "+"}


def test_a_class_has_its_parameters_as_attributes_even_in_init() -> None:
    write(
        "fix.py",
        "from bulkup import param\n"
        + FIX
        + "\n    n: int = param(2)\n    def __init__(self): self.double = 2 * self.n\n",
    )
    source = load("fix.py")
    assert ready(source, n="21").double == 42
    assert ready(source).double == 4
    assert ready(source).n == 2


def test_a_dataclass_updater_gets_its_parameters_too() -> None:
    write(
        "fix.py",
        "import dataclasses\nfrom bulkup import param\n"
        + FIX.replace("class Fix", "@dataclasses.dataclass\nclass Fix").replace(
            "    def get_query", "    n: int = param(2)\n    d: int = 5\n\n    def get_query"
        ),
    )
    assert ready(load("fix.py"), n="21").n == 21


def test_two_instances_do_not_share_a_list() -> None:
    write("fix.py", FUNCTION.replace('sep: str = "-"', "names: list[str] = ['a']"))
    source = load("fix.py")
    ready(source).arguments["names"].append("b")
    assert ready(source).arguments == {"names": ["a"]}


def test_a_failing_init_shows_the_users_frames() -> None:
    write("fix.py", FIX + "\n    def __init__(self): raise OSError('no network')\n")
    with pytest.raises(UpdaterError, match="Fix cannot be created: OSError: no network") as caught:
        ready(load("fix.py"))
    assert "raise OSError" in caught.value.details
    assert "bulkup/" not in caught.value.details


def test_make_refuses_missing_values() -> None:
    write("fix.py", FUNCTION)
    with pytest.raises(ParameterError, match="'sep'"):
        make(load("fix.py"), {})


def test_a_generator_function_writes_all_it_yields() -> None:
    write("fix.py", FUNCTION.replace("return entity", "yield entity; yield None; yield [entity]"))
    from google.cloud.datastore import Entity

    entity = Entity(offline_client().key("Thing", 1))
    definition: Any = load("fix.py").definition
    assert handle(definition, entity).puts == (entity, entity)


def test_a_named_import_from_bulkup_itself_can_be_completed() -> None:
    write("fix.py", "from bulkup import BulkDelete\nclass Drop(BulkDelete):\n"
          "    def get_query(self): return self.client.query(kind='A')\n")  # fmt: skip
    definition = load("fix.py").definition
    assert isinstance(definition, type)
    assert issubclass(definition, BulkDelete)
