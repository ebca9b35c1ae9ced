//! Metrics of the service that a program has brought.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::Handle;
use crate::service::{Service, ServiceMetric, ServiceMetrics};

/// Asks the service, whatever its type is; nothing for the services that are here, which have none.
#[derive(Clone, Default)]
pub(super) struct ServiceFigures(Option<Arc<Ask>>);

type Ask = dyn Fn() -> (String, Vec<ServiceMetric>) + Send + Sync;

impl ServiceFigures {
    pub(super) fn of<S: Service>(service: &Arc<S>) -> Self {
        let service = Arc::clone(service);
        Self(Some(Arc::new(move || {
            let mut metrics = ServiceMetrics::default();
            // Whoever only looks must not be hurt by it.
            let told = catch_unwind(AssertUnwindSafe(|| service.metrics(&mut metrics)));
            let metrics = told.map_or_else(|_| Vec::new(), |()| metrics.into_metrics());
            (service.name().to_owned(), metrics)
        })))
    }
}

impl fmt::Debug for ServiceFigures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ServiceFigures").field(&self.0.is_some()).finish()
    }
}

impl Handle {
    /// The name of the service that the program has brought, and its own metrics now.
    pub fn service_metrics(&self) -> Option<(String, Vec<ServiceMetric>)> {
        self.service.0.as_deref().map(|ask| ask())
    }
}
