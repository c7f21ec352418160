"""The text of /metrics, judged by Prometheus' own Python library."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.appliance.observation.exposition import Metric, Sample, rendered

LABELS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=20)


@given(
    st.dictionaries(
        st.tuples(LABELS, LABELS), st.floats(allow_nan=False, allow_infinity=False), max_size=8
    )
)
def test_any_labels_and_values_come_back(values: dict[tuple[str, str], float]) -> None:
    metric = Metric("gateway_test", "gauge", "What is tested.", ("a", "b"))
    text = rendered([(metric, [Sample(labels, value) for labels, value in values.items()])])
    (family,) = text_string_to_metric_families(text)
    assert family.type == "gauge"
    assert family.documentation == "What is tested."
    found = {(s.labels["a"], s.labels["b"]): s.value for s in family.samples}
    assert found == values


def test_a_histogram_is_one_family() -> None:
    metric = Metric("gateway_gap_seconds", "histogram", "Gap.", ("kind",))
    samples = [
        Sample(("esp",), 1, "_bucket", "0.1"),
        Sample(("esp",), 3, "_bucket", "+Inf"),
        Sample(("esp",), 0.75, "_sum"),
        Sample(("esp",), 3, "_count"),
    ]
    (family,) = text_string_to_metric_families(rendered([(metric, samples)]))
    assert family.type == "histogram"
    assert [sample.name.removeprefix("gateway_gap_seconds") for sample in family.samples] == [
        "_bucket",
        "_bucket",
        "_sum",
        "_count",
    ]
    assert family.samples[1].labels == {"kind": "esp", "le": "+Inf"}
