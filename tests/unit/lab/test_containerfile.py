"""Containerfiles as the lab reads them: the last stage counts, and what is not understood is refused."""

from __future__ import annotations

import pytest
from lab.containerfile import ContainerfileError, parse

TEXT = """\
# a comment
ARG BASE=docker.io/library/debian:trixie-slim
FROM ${BASE} AS build
ARG PACKAGES="python3 util-linux"
USER 1:1
COPY requirements/a.txt /build/a.txt
RUN one \\
  # within
 && two
COPY crds/package operator/package /build/
COPY --from=other /tree /

FROM ${BASE}
COPY pyproject.toml /x
ENV A=b C=d
ENTRYPOINT ["/usr/local/bin/thing", "run"]
"""


def test_the_last_stage_says_what_runs_and_all_stages_what_goes_in() -> None:
    said = parse(TEXT)
    assert said.argument("PACKAGES") == "python3 util-linux"
    assert said.sources == ("requirements/a.txt", "crds/package", "operator/package", "pyproject.toml")
    assert (said.entrypoint, said.environment) == (("/usr/local/bin/thing", "run"), ("A=b", "C=d"))
    assert said.user == "", "the user of an earlier stage is not the image's"


def test_the_user_of_the_last_stage_is_the_images() -> None:
    assert parse(TEXT + "USER 65532:65532\n").user == "65532:65532"


def test_what_is_not_understood_is_refused() -> None:
    with pytest.raises(ContainerfileError, match="ENV PATH"):
        parse("FROM scratch\nENV PATH /bin\n")
    with pytest.raises(ContainerfileError, match="PACKAGES"):
        parse("FROM scratch\n").argument("PACKAGES")
