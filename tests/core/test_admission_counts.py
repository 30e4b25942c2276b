"""What the injector counts, read as Prometheus reads it."""

from prometheus_client.parser import text_string_to_metric_families

from sidecar.core.admission import Result
from sidecar.core.admission_counts import Counts
from sidecar.core.limits import SECOND


def samples(counts, **more):
    given = {"expiries_ns": {"leaf": 7 * SECOND, "authority": None}, "is_ready": True, "uninjected": None} | more
    families = text_string_to_metric_families(counts.text(**given).decode())
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def test_everything_is_there_from_the_start():
    found = samples(Counts())
    assert {found["sidecar_injector_admissions_total", each.value] for each in Result} == {0}
    assert found["sidecar_injector_ready",] == 1
    assert found["sidecar_injector_certificate_expiry_timestamp_seconds", "leaf"] == 7
    assert ("sidecar_injector_certificate_expiry_timestamp_seconds", "authority") not in found
    assert ("sidecar_injector_uninjected_pods",) not in found
    assert samples(Counts(), uninjected=3, is_ready=False)["sidecar_injector_uninjected_pods",] == 3


def test_durations_fall_into_buckets():
    counts = Counts()
    for duration_us in (100, 101, 1_000_000, 2_000_000):
        counts.admitted(Result.INJECTED, "", duration_us * 1000)
    found = samples(counts)
    name = "sidecar_injector_admission_duration_seconds"
    assert [found[f"{name}_bucket", each] for each in ("0.0001", "0.00025", "0.25", "1", "+Inf")] == [1, 2, 2, 3, 4]
    assert found[f"{name}_count",] == 4
    assert found[f"{name}_sum",] == 3.000201
    assert counts.total(Result.INJECTED) == 4
    assert repr(counts) == "<Counts {'injected': 4}>"


def test_reasons_are_bounded_and_escaped():
    counts = Counts()
    for number in range(40):
        counts.admitted(Result.SKIPPED, f'"\\\n{number}', 1)
    counts.admitted(Result.DENIED, "free text", 1)
    skipped = {name[1]: value for name, value in samples(counts).items() if name[0] == "sidecar_injector_skipped_total"}
    assert len(skipped) == 33
    assert skipped["other"] == 8
    assert skipped['"\\\n0'] == 1


def test_steps_and_errors():
    counts = Counts()
    counts.rotations["promote"] += 1
    counts.api_errors = 2
    found = samples(counts)
    assert found["sidecar_injector_certificate_steps_total", "promote"] == 1
    assert found["sidecar_injector_api_errors_total",] == 2
