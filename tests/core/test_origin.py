from __future__ import annotations

from bulkup.core.origin import origin_of
from bulkup.core.version import __version__


def test_the_address_of_a_job_loses_its_password() -> None:
    found = origin_of({"BUILD_URL": "https://ci:hunter22@jenkins/job/7", "GIT_COMMIT": "abc"})
    assert (found.version, found.git_commit) == (__version__, "abc")
    assert found.ci_job.endswith("@jenkins/job/7")
    assert "hunter22" not in found.ci_job
