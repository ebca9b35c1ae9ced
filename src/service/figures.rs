//! What a service counts of its own.

/// Where a service tells its own metrics when somebody asks for them: [`Service::metrics`](super::Service::metrics). They
/// appear in `/metrics` under the name of the service: the counter `commands` of the service `resp` is
/// `resp_commands_total`.
#[derive(Debug, Default)]
pub struct ServiceMetrics {
    metrics: Vec<ServiceMetric>,
}

/// One metric of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceMetric {
    /// Its name, without that of the service.
    pub name: String,
    /// What it counts, as a sentence.
    pub help: &'static str,
    /// Its value.
    pub value: ServiceValue,
}

/// The value of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ServiceValue {
    /// It never falls.
    Counter(u64),
    /// It may rise and fall.
    Gauge(f64),
}

impl ServiceMetrics {
    /// A number that never falls, such as commands so far. The name is one of metrics, in snake case without a suffix:
    /// other characters become `_`.
    pub fn counter(&mut self, name: &str, help: &'static str, value: u64) {
        self.add(name, help, ServiceValue::Counter(value));
    }

    /// A number that may rise and fall, such as subscribers.
    pub fn gauge(&mut self, name: &str, help: &'static str, value: f64) {
        self.add(name, help, ServiceValue::Gauge(value));
    }

    /// All that was told, in its order. Of two with the same name the first counts.
    pub fn into_metrics(self) -> Vec<ServiceMetric> {
        self.metrics
    }

    fn add(&mut self, name: &str, help: &'static str, value: ServiceValue) {
        let name = metric_name(name);
        if !self.metrics.iter().any(|metric| metric.name == name) {
            self.metrics.push(ServiceMetric { name, help, value });
        }
    }
}

/// `text` as part of the name of a metric.
pub(crate) fn metric_name(text: &str) -> String {
    let fit = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    text.chars().map(fit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_are_told_once() {
        let mut metrics = ServiceMetrics::default();
        metrics.counter("cache-hits", "Hits.", 3);
        metrics.gauge("cache.hits", "Others.", 1.5);
        metrics.gauge("size", "Entries.", 2.0);
        let told: Vec<_> =
            metrics.into_metrics().into_iter().map(|it| (it.name, it.value)).collect();
        let expected = [
            ("cache_hits".to_owned(), ServiceValue::Counter(3)),
            ("size".to_owned(), ServiceValue::Gauge(2.0)),
        ];
        assert_eq!(told, expected);
    }
}
