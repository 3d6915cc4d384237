//! Limits of pods' rates, by their annotations and by what the runtime has asked for.

use super::AttachError;
use crate::control::Control;
use millrace_api::{AttachmentId, AttachmentRequest, Bandwidth};
use millrace_config::InvalidValue;
use millrace_fastpath::port::Frame;

/// The rates that Kubernetes takes in the annotations (pkg/util/bandwidth/utils.go), in bits a second.
const LEAST: f64 = 1e3;
const MOST: f64 = 1e15;

impl<F: Frame> Control<F> {
    /// The limits of an attachment. In each direction the pod's annotation comes before what the runtime has asked for.
    pub(super) fn bandwidth(&self, request: &AttachmentRequest) -> Result<Option<Bandwidth>, AttachError> {
        let asked = request.bandwidth.unwrap_or_default();
        let Some(pod) = self.annotated_pod(request) else {
            return Ok(request.bandwidth);
        };
        let rate = |text: &Option<String>, field| {
            let parsed = text.as_deref().map(parse_rate).transpose();
            parsed.map_err(|source| AttachError::Value { id: request.id.clone(), field, source })
        };
        let ingress = rate(&pod.port.ingress_bandwidth, "annotation kubernetes.io/ingress-bandwidth")?;
        let egress = rate(&pod.port.egress_bandwidth, "annotation kubernetes.io/egress-bandwidth")?;
        let merged = Bandwidth {
            ingress_rate: ingress.or(asked.ingress_rate),
            ingress_burst: asked.ingress_burst.filter(|_| ingress.is_none()),
            egress_rate: egress.or(asked.egress_rate),
            egress_burst: asked.egress_burst.filter(|_| egress.is_none()),
        };
        Ok((merged != Bandwidth::default()).then_some(merged))
    }

    /// Follows the annotations of pods that have their ports. What cannot be read changes nothing and is reported.
    pub(crate) fn follow_bandwidth(&mut self) {
        let with_pod = self.attachments.entries.values().filter(|stored| stored.request.pod.is_some());
        let wanted: Vec<_> = with_pod
            .map(|stored| {
                (stored.request.id.clone(), stored.attachment.port.clone(), self.bandwidth(&stored.request))
            })
            .collect();
        for (id, port, limits) in wanted {
            let outcome = limits
                .map_err(|error| error.to_string())
                .and_then(|limits| self.limit_port(&port, limits).map_err(|error| error.to_string()));
            self.note_limits(id, outcome);
        }
    }

    fn note_limits(&mut self, id: AttachmentId, outcome: Result<(), String>) {
        let unlimited = &mut self.attachments.unlimited;
        match outcome {
            Ok(()) => drop(unlimited.remove(&id)),
            Err(reason) if unlimited.get(&id) == Some(&reason) => {}
            Err(reason) => {
                tracing::warn!(reason, attachment = %id, "its limits stay as they are");
                unlimited.insert(id, reason);
            }
        }
    }
}

/// Bits a second from a Kubernetes quantity (apimachinery/pkg/api/resource/quantity.go).
fn parse_rate(text: &str) -> Result<u64, InvalidValue> {
    let wrong = || InvalidValue::Form {
        value: text.to_owned(),
        expected: "bits a second from 1k to 1P, as a Kubernetes quantity such as 10M or 1.5G",
    };
    let end = text.find(|sign: char| !sign.is_ascii_digit() && sign != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let rate = number.parse::<f64>().map_err(|_| wrong())? * factor(unit).ok_or_else(wrong)?;
    match (LEAST..=MOST).contains(&rate) {
        true => Ok(rate.ceil() as u64),
        false => Err(wrong()),
    }
}

/// What the suffix of a quantity stands for.
fn factor(unit: &str) -> Option<f64> {
    let power = |units: &str, base: f64| {
        let at = units.find(unit.get(..1)?)?;
        Some(base.powi(at as i32 + 1))
    };
    match unit.len() {
        0 => Some(1.0),
        1 if unit == "m" => Some(1e-3),
        1 => power("kMGTPE", 1e3),
        2 if unit.ends_with('i') => power("KMGTPE", 1024.0),
        _ => {
            let exponent: i32 = unit.strip_prefix(['e', 'E'])?.parse().ok()?;
            Some(10_f64.powi(exponent))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, rate) in [
            ("10M", 10_000_000),
            ("1k", 1_000),
            ("1P", 1_000_000_000_000_000),
            ("1.5G", 1_500_000_000),
            ("1Ki", 1_024),
            ("10Mi", 10_485_760),
            ("1e6", 1_000_000),
            ("2E4", 20_000),
            ("1000", 1_000),
            ("1500500m", 1_501),
            (".5M", 500_000),
        ] {
            assert_eq!(parse_rate(text).unwrap(), rate, "{text}");
        }
        for text in
            ["", "M", "10 M", "-1M", "999", "1.1P", "1E", "10MB", "10mi", "1e", "nan", "inf", "1e999", "1µ"]
        {
            let error = parse_rate(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
