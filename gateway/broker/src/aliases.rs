//! Topic aliases towards a client: topics that it is sent often travel as two bytes.

use crate::packet::publish::Naming;
use crate::topic::TopicName;

/// A shorter topic is not worth the three bytes of an alias.
const WORTH_IT: usize = 6;

/// The aliases that one connection has been told. Each topic has one possible alias, which the
/// topic sent last holds: no search, and no more memory than the aliases allowed.
#[derive(Debug, Default)]
pub(crate) struct OutboundAliases {
    /// Topics by alias - 1.
    topics: Box<[Option<TopicName>]>,
}

impl OutboundAliases {
    /// As many as the client takes [MQTT-3.1.2-26], and not more than `max`.
    pub(crate) fn new(client_maximum: u16, max: u16) -> OutboundAliases {
        OutboundAliases { topics: vec![None; client_maximum.min(max).into()].into() }
    }

    /// How the next PUBLISH to this topic says it.
    pub(crate) fn naming(&self, topic: &TopicName) -> Naming {
        if self.topics.is_empty() || topic.as_str().len() < WORTH_IT {
            return Naming::Name;
        }
        let place = (hash(topic.as_str()) % self.topics.len() as u64) as usize;
        let alias = place as u16 + 1;
        match &self.topics[place] {
            Some(known) if known == topic => Naming::Alias(alias),
            Some(_) | None => Naming::Both(alias),
        }
    }

    /// A PUBLISH has been sent that said its topic like this.
    pub(crate) fn said(&mut self, topic: &TopicName, naming: Naming) {
        if let Naming::Both(alias) = naming
            && let Some(place) = self.topics.get_mut(usize::from(alias) - 1)
        {
            *place = Some(topic.clone());
        }
    }
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_named_once_and_meant_by_its_alias_until_another_takes_it() {
        let topic = |text: &str| TopicName::parse(text).unwrap();
        let mut aliases = OutboundAliases::new(1, 32);
        let (a, b) = (topic("sensors/a"), topic("sensors/b"));
        let mut said = Vec::new();
        for next in [&a, &a, &b, &a, &topic("short")] {
            let naming = aliases.naming(next);
            aliases.said(next, naming);
            said.push(naming);
        }
        use Naming::{Alias, Both, Name};
        assert_eq!(said, [Both(1), Alias(1), Both(1), Both(1), Name]);
        assert_eq!(OutboundAliases::new(0, 32).naming(&a), Name);
    }
}
