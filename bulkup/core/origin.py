"""Where a run was started, from what CI systems put into the environment."""

from __future__ import annotations

from collections.abc import Mapping

from bulkup.core.records import Origin
from bulkup.core.secrets import without_secrets
from bulkup.core.version import __version__

_JOBS = ("CI_JOB_URL", "BUILDKITE_BUILD_URL", "CIRCLE_BUILD_URL", "BUILD_URL")
"""GitLab, Buildkite, CircleCI, Jenkins."""

_COMMITS = (
    "GITHUB_SHA", "CI_COMMIT_SHA", "BUILDKITE_COMMIT", "CIRCLE_SHA1", "GIT_COMMIT", "COMMIT_SHA",
)  # fmt: skip
"""GitHub, GitLab, Buildkite, CircleCI, Jenkins; COMMIT_SHA is Cloud Build's name for it."""

_MAX_LENGTH = 500
"""Characters. A job may set its variables to anything."""


def origin_of(environment: Mapping[str, str]) -> Origin:
    """Where this run was started. A password in the address of the job is left out."""
    job = without_secrets(_job(environment)[:_MAX_LENGTH])
    return Origin(__version__, job, _first(environment, _COMMITS)[:_MAX_LENGTH])


def _job(environment: Mapping[str, str]) -> str:
    if environment.get("GITHUB_RUN_ID"):
        server = environment.get("GITHUB_SERVER_URL", "https://github.com")
        repository = environment.get("GITHUB_REPOSITORY", "")
        return f"{server}/{repository}/actions/runs/{environment['GITHUB_RUN_ID']}"
    if environment.get("CLOUD_RUN_EXECUTION"):
        return (
            f"Cloud Run job {environment.get('CLOUD_RUN_JOB', '')}, "
            f"execution {environment['CLOUD_RUN_EXECUTION']}"
        )
    return _first(environment, _JOBS)


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")
