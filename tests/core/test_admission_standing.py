"""What speaks against sending admissions to a replica."""

import pytest

from sidecar.core.admission_standing import Standing, retry_after_ns, why_unready
from sidecar.core.limits import DAY, SECOND
from tests.core.test_certificates import NOW, certificate

GOOD = certificate("A")


@pytest.mark.parametrize(
    ("standing", "reasons"),
    [
        (Standing(GOOD, "", ""), ()),
        (Standing(GOOD, "", "", True), ("draining",)),
        (Standing(None, "", ""), ("no certificate yet",)),
        (Standing(certificate("A", NOW, NOW), "", ""), ("the certificate is not valid now",)),
        (Standing(certificate("A", NOW + 1), "", ""), ("the certificate is not valid now",)),
        (Standing(GOOD, "differs", ""), ("differs",)),
        (Standing(GOOD, None, ""), ("the webhook configuration has not been read yet",)),
        (Standing(GOOD, "", "refused"), ("refused",)),
        (Standing(GOOD, ""), ("no call to itself has been made yet",)),
    ],
)
def test_why_unready(standing, reasons):
    assert why_unready(standing, NOW) == reasons


def test_time_alone_can_end_it():
    assert why_unready(Standing(GOOD, "", ""), NOW + 366 * DAY)


def test_retries_slow_down_and_go_on():
    assert [retry_after_ns(failures) * 2 // SECOND for failures in (1, 2, 3, 6, 7, 1000)] == [1, 2, 4, 32, 60, 60]
