//! Rules by source, as plainly as they can be written: maps from a source to what it has, and whole microseconds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};

use crate::config::{Rate, Refusal, RuleMode, SourceRules};
use crate::sources::{Action, DELAY_MOST, Rule};

/// A source or a site, as it is shown.
type Name = String;

/// What a connection counts for: a tier, and a source or a site.
pub(super) type Counted = (usize, Name);

/// What may have been taken back before.
pub(super) type Less = BTreeMap<Counted, u32>;

/// A question.
pub(super) struct Asked<'a> {
    /// Of the frontend, and of the process.
    pub(super) rules: [&'a SourceRules; 2],
    pub(super) address: IpAddr,
    pub(super) now_us: u64,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It comes in after a while, if not at once, and counts for these.
    In(Vec<Counted>, Duration),
    Refused(Rule),
}

impl Said {
    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    open: BTreeMap<Counted, u32>,
    /// When the next would come if all came evenly.
    arrival_us: BTreeMap<Counted, u64>,
    /// What was taken of a lower rate and is forgotten while one is asked about.
    fitted: Vec<(Counted, u64)>,
    /// How often a rule was against one, by tier.
    counts: BTreeMap<(usize, usize, usize), u64>,
}

/// How much one source or site may have.
struct Share {
    counted: Counted,
    most: Option<u32>,
    /// From one to the next, and how early one may be, in microseconds.
    spacing: Option<(u64, u64)>,
}

impl Model {
    /// Open connections of each source and site that has some.
    pub(super) fn open(&self, tier: usize) -> BTreeMap<String, u32> {
        let own = self.open.iter().filter(|((of, _), open)| *of == tier && **open > 0);
        own.map(|((_, name), open)| (name.clone(), *open)).collect()
    }

    /// Microseconds until the rate of a source or site is whole again.
    pub(super) fn ahead(&self, tier: usize, now_us: u64) -> BTreeMap<String, u64> {
        let own = self.arrival_us.iter().filter(|((of, _), next)| *of == tier && **next > now_us);
        own.map(|((_, name), next)| (name.clone(), next - now_us)).collect()
    }

    /// How often which rule was against one, and what became of it.
    pub(super) fn counts(&self, tier: usize) -> Vec<(Rule, Action, u64)> {
        let own = self.counts.iter().filter(|((of, ..), _)| *of == tier);
        own.map(|((_, rule, action), count)| (Rule::ALL[*rule], Action::ALL[*action], *count))
            .collect()
    }

    pub(super) fn release(&mut self, counted: Counted) {
        *self.open.entry(counted).or_default() -= 1;
    }

    /// Asks one tier after the other. Whom the second refuses the first has never seen.
    pub(super) fn ask(&mut self, asked: &Asked<'_>, less: &Less) -> Said {
        let before = (self.open.clone(), self.arrival_us.clone());
        let (mut counted, mut wait) = (Vec::new(), Duration::ZERO);
        for tier in 0..asked.rules.len() {
            match self.ask_tier(tier, asked, less) {
                Ok((own, so_long)) => {
                    counted.extend(own);
                    wait = wait.max(so_long);
                }
                Err(rule) => {
                    (self.open, self.arrival_us) = before;
                    self.keep_fitted();
                    return Said::Refused(rule);
                }
            }
        }
        self.fitted.clear();
        Said::In(counted, wait)
    }

    fn ask_tier(
        &mut self,
        tier: usize,
        asked: &Asked<'_>,
        less: &Less,
    ) -> Result<(Vec<Counted>, Duration), Rule> {
        let (rules, address) = (asked.rules[tier], asked.address);
        let nothing = (Vec::new(), Duration::ZERO);
        if rules.mode == RuleMode::Off {
            return Ok(nothing);
        }
        let network_rule = if lists(&rules.deny.own, address) {
            Some(Rule::Deny)
        } else {
            let is_outside = !rules.allow.own.is_empty() && !lists(&rules.allow.own, address);
            is_outside.then_some(Rule::Allow)
        };
        self.is_against(tier, rules, network_rule)?;
        let has_limits = rules.max_per_source.is_some() || rules.rate_per_source.is_some();
        if !has_limits || lists(&rules.exempt, address) {
            return Ok(nothing);
        }
        let shares = shares(tier, rules, address);
        let counted = || shares.iter().map(|share| share.counted.clone()).collect();
        let mut wait = Duration::ZERO;
        for share in &shares {
            match self.may_have(share, rules, (asked.now_us, less)) {
                Ok(so_long) => wait = wait.max(so_long),
                Err(rule) => {
                    self.is_against(tier, rules, Some(rule))?;
                    // It is only watched: it counts as open, and takes nothing of the rate.
                    shares.iter().for_each(|share| self.opens(share));
                    self.keep_fitted();
                    return Ok((counted(), Duration::ZERO));
                }
            }
        }
        for share in &shares {
            self.opens(share);
            if let Some((interval_us, _)) = share.spacing {
                let next = self.next_us(share, rules, asked.now_us) + interval_us;
                self.arrival_us.insert(share.counted.clone(), next);
            }
        }
        if !wait.is_zero() {
            self.count(tier, Rule::RatePerSource, Action::Delayed);
        }
        Ok((counted(), wait))
    }

    /// How long one more has to wait.
    fn may_have(
        &mut self,
        share: &Share,
        rules: &SourceRules,
        (now_us, less): (u64, &Less),
    ) -> Result<Duration, Rule> {
        let open = self.open.get(&share.counted).copied().unwrap_or_default();
        let open = open - less.get(&share.counted).copied().unwrap_or_default();
        if share.most.is_some_and(|most| open >= most) {
            return Err(Rule::MaxPerSource);
        }
        let Some((_, early_us)) = share.spacing else { return Ok(Duration::ZERO) };
        let next_us = self.next_us(share, rules, now_us);
        let wait = next_us.saturating_sub(early_us).saturating_sub(now_us);
        let wait = Duration::from_micros(wait);
        if wait > patience(rules) {
            return Err(Rule::RatePerSource);
        }
        if self.arrival_us.get(&share.counted).is_some_and(|taken| *taken > next_us) {
            self.fitted.push((share.counted.clone(), next_us));
        }
        Ok(wait)
    }

    /// What was taken of a lower rate is forgotten once a source was within its own, although something else was against it.
    fn keep_fitted(&mut self) {
        for (counted, next_us) in self.fitted.drain(..) {
            self.arrival_us.insert(counted, next_us);
        }
    }

    /// What was taken of a lower rate, before a reload, holds up nobody for longer than this rate can.
    fn next_us(&self, share: &Share, rules: &SourceRules, now_us: u64) -> u64 {
        let next = self.arrival_us.get(&share.counted).map_or(now_us, |next| now_us.max(*next));
        let Some((interval_us, early_us)) = share.spacing else { return next };
        let most = early_us + interval_us + patience(rules).as_micros() as u64;
        if next - now_us > most + 2 { now_us + early_us } else { next }
    }

    fn opens(&mut self, share: &Share) {
        *self.open.entry(share.counted.clone()).or_default() += 1;
    }

    fn is_against(
        &mut self,
        tier: usize,
        rules: &SourceRules,
        rule: Option<Rule>,
    ) -> Result<(), Rule> {
        let Some(rule) = rule else { return Ok(()) };
        if rules.mode == RuleMode::Enforce {
            self.count(tier, rule, Action::Refused);
            return Err(rule);
        }
        self.count(tier, rule, Action::Observed);
        Ok(())
    }

    fn count(&mut self, tier: usize, rule: Rule, action: Action) {
        *self.counts.entry((tier, rule as usize, action as usize)).or_default() += 1;
    }
}

/// How long somebody may wait for a turn.
fn patience(rules: &SourceRules) -> Duration {
    let waits = rules.refuse == Refusal::Delay && rules.mode == RuleMode::Enforce;
    if waits { DELAY_MOST } else { Duration::ZERO }
}

fn lists(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// An IPv4 address is a source; an IPv6 address is of a source and of a site, which may have a multiple.
fn shares(tier: usize, rules: &SourceRules, address: IpAddr) -> Vec<Share> {
    let most = rules.max_per_source.map(std::num::NonZeroU32::get);
    let own_us = |rate: Rate| rate.period.as_micros() as u64 / u64::from(rate.count.get());
    let burst = |rate: Rate| u64::from(rate.burst.get());
    let spacing =
        rules.rate_per_source.map(|rate| (own_us(rate), own_us(rate) * (burst(rate) - 1)));
    let IpAddr::V6(ipv6) = address else {
        return vec![Share { counted: (tier, address.to_string()), most, spacing }];
    };
    let network = |bits| Ipv6Net::new(ipv6, bits).expect("it has so many bits").trunc().to_string();
    let factor = rules.site_factor;
    let of_site = |rate: Rate| {
        let interval_us = own_us(rate) / u64::from(factor);
        (interval_us, interval_us * (burst(rate) * u64::from(factor) - 1))
    };
    let source = Share { counted: (tier, network(64)), most, spacing };
    let site = Share {
        counted: (tier, network(48)),
        most: most.map(|most| most * factor),
        spacing: rules.rate_per_source.map(of_site),
    };
    vec![source, site]
}
