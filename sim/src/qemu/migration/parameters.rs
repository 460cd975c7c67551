//! How a migration goes about it: `migrate-set-parameters` and `query-migrate-parameters`.
//!
//! All can be set and are shown; of all, `max-bandwidth`, `downtime-limit` and `tls-creds` alone change something here.
//! Source: the four releases, asked.

use std::ops::RangeInclusive;

use serde_json::Value;

use crate::{
    Release,
    qemu::{QmpError, arguments::Arguments, not_simulated},
    qobject::{Key, QDict, QObject, key, qdict},
};

/// What a parameter is when nobody has set it.
#[derive(Debug, Clone, Copy)]
enum Initial {
    Number(u64),
    Flag(bool),
    Text(&'static str),
    /// An empty list.
    List,
    /// Not shown.
    Absent,
}

/// What numbers a parameter takes, and how others are refused: behind "expects ", by 5.2 and by later releases.
#[derive(Debug, Clone)]
struct Limit {
    range: RangeInclusive<u64>,
    power_of_two: bool,
    oldest: &'static str,
    later: &'static str,
}

/// A parameter of some releases.
struct Parameter {
    key: Key,
    initial: Initial,
    releases: RangeInclusive<Release>,
    limit: Option<Limit>,
}

const OLDEST: Release = Release::V5_2;
const NEWEST: Release = Release::V11_1;

const fn number(key: Key, initial: u64) -> Parameter {
    Parameter { key, initial: Initial::Number(initial), releases: OLDEST..=NEWEST, limit: None }
}

const fn text(key: Key, initial: &'static str) -> Parameter {
    Parameter { key, initial: Initial::Text(initial), releases: OLDEST..=NEWEST, limit: None }
}

const fn flag(key: Key) -> Parameter {
    Parameter { key, initial: Initial::Flag(false), releases: OLDEST..=NEWEST, limit: None }
}

impl Parameter {
    const fn within(self, range: RangeInclusive<u64>, oldest: &'static str, later: &'static str) -> Self {
        Self { limit: Some(Limit { range, power_of_two: false, oldest, later }), ..self }
    }

    const fn power_of_two(
        self,
        range: RangeInclusive<u64>,
        oldest: &'static str,
        later: &'static str,
    ) -> Self {
        Self { limit: Some(Limit { range, power_of_two: true, oldest, later }), ..self }
    }

    const fn since(self, first: Release) -> Self {
        Self { releases: first..=NEWEST, ..self }
    }

    const fn until_7_2(self) -> Self {
        Self { releases: OLDEST..=Release::V7_2, ..self }
    }
}

const TO_255: [&str; 2] = ["is invalid, it should be in the range of 1 to 255", "a value between 1 and 255"];
const PERCENT: &str = "an integer in the range of 1 to 100";
const BELOW_ALL: &str = "an integer in the range of 1 to 99";
const MILLISECONDS: [&str; 2] =
    ["is invalid, it must be less than 100000 ms", "a value between 0 and 100000"];
const STEP: [&str; 2] =
    ["is invalid, it must be in the range of 1 to 10000 ms", "a value between 0 and 10000"];
const ROUNDS: [&str; 2] = ["is invalid, it must be in the range of 0 to 1000", "a value between 0 and 1000"];
const LEVEL: [&str; 2] = ["is invalid, it should be in the range of 0 to 9", "a value between 0 and 9"];
const DOWNTIME: &str = "an integer in the range of 0 to (2000 * 1000) ms";
const CACHE: [&str; 2] = [
    "is invalid, it should be bigger than target page size and a power of 2",
    "a power of two no less than the target page size",
];
const CHUNK: &str = "a power of 2 in the range 1MiB to 1024MiB";

/// All of them in the order in which they are checked.
const KNOWN: &[Parameter] = &[
    number(key!("compress-level"), 1).within(0..=9, LEVEL[0], LEVEL[1]).until_7_2(),
    number(key!("compress-threads"), 8).within(1..=255, TO_255[0], TO_255[1]).until_7_2(),
    number(key!("decompress-threads"), 2).within(1..=255, TO_255[0], TO_255[1]).until_7_2(),
    number(key!("throttle-trigger-threshold"), 50).within(1..=100, PERCENT, PERCENT),
    number(key!("cpu-throttle-initial"), 20).within(1..=99, BELOW_ALL, BELOW_ALL),
    number(key!("cpu-throttle-increment"), 10).within(1..=99, BELOW_ALL, BELOW_ALL),
    flag(key!("cpu-throttle-tailslow")),
    text(key!("tls-creds"), ""),
    text(key!("tls-hostname"), ""),
    text(key!("tls-authz"), ""),
    number(key!("max-bandwidth"), 128 << 20),
    number(key!("avail-switchover-bandwidth"), 0).since(Release::V10_0),
    number(key!("downtime-limit"), 300).within(0..=2_000_000, DOWNTIME, DOWNTIME),
    number(key!("x-checkpoint-delay"), 20_000),
    number(key!("multifd-channels"), 2).within(1..=255, TO_255[0], TO_255[1]),
    number(key!("multifd-zlib-level"), 1).within(0..=9, LEVEL[0], LEVEL[1]),
    number(key!("multifd-qatzip-level"), 1)
        .within(1..=9, "a value between 1 and 9", "a value between 1 and 9")
        .since(Release::V10_0),
    number(key!("multifd-zstd-level"), 1).within(
        0..=20,
        "a value between 0 and 20",
        "a value between 0 and 20",
    ),
    number(key!("xbzrle-cache-size"), 64 << 20).power_of_two(4096..=u64::MAX, CACHE[0], CACHE[1]),
    number(key!("max-cpu-throttle"), 99),
    number(key!("max-postcopy-bandwidth"), 0),
    number(key!("announce-initial"), 50).within(0..=100_000, MILLISECONDS[0], MILLISECONDS[1]),
    number(key!("announce-max"), 550).within(0..=100_000, MILLISECONDS[0], MILLISECONDS[1]),
    number(key!("announce-rounds"), 5).within(0..=1000, ROUNDS[0], ROUNDS[1]),
    number(key!("announce-step"), 100).within(1..=10_000, STEP[0], STEP[1]),
    number(key!("x-vcpu-dirty-limit-period"), 1000)
        .within(1..=1000, "a value between 1 and 1000", "a value between 1 and 1000")
        .since(Release::V10_0),
    number(key!("x-rdma-chunk-size"), 1 << 20).power_of_two(1 << 20..=1 << 30, CHUNK, CHUNK).since(NEWEST),
    Parameter { releases: OLDEST..=Release::V7_2, ..flag(key!("block-incremental")) },
    Parameter { initial: Initial::Flag(true), ..flag(key!("compress-wait-thread")).until_7_2() },
    text(key!("multifd-compression"), "none"),
    // In the bucket of `multifd-compression`, in front of which it is written.
    number(key!("vcpu-dirty-limit"), 1).since(Release::V10_0),
    text(key!("mode"), "normal").since(Release::V10_0),
    text(key!("zero-page-detection"), "multifd").since(Release::V10_0),
    flag(key!("direct-io")).since(Release::V10_0),
    Parameter { initial: Initial::List, ..flag(key!("cpr-exec-command")).since(NEWEST) },
    Parameter { initial: Initial::Absent, ..flag(key!("block-bitmap-mapping")) },
];

/// Parameters that 7.2 and later hold in a byte.
const BYTES: [&str; 9] = [
    "compress-level",
    "compress-threads",
    "decompress-threads",
    "throttle-trigger-threshold",
    "cpu-throttle-initial",
    "cpu-throttle-increment",
    "max-cpu-throttle",
    "multifd-channels",
    "multifd-zlib-level",
];

/// The parameters that somebody has set.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    set: Vec<(&'static str, QObject)>,
}

impl Parameters {
    /// A parameter that is a number.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let set = self.set.iter().find(|(set, _)| *set == name).map(|(_, value)| value);
        let initial = KNOWN.iter().find(|known| known.key.name == name).map(|known| known.initial);
        match (set, initial) {
            (Some(QObject::Number(number)), _) => *number,
            (None, Some(Initial::Number(number))) => number,
            _ => 0,
        }
    }

    /// The credentials for TLS, by name, where connections are to use it.
    pub(crate) fn credentials(&self) -> Option<&str> {
        self.text("tls-creds").filter(|name| !name.is_empty())
    }

    /// Whether memory with places of its own in a file could be sent so.
    pub(crate) fn suit_mapped_ram(&self) -> bool {
        self.credentials().is_none() && self.text("multifd-compression").is_none_or(|method| method == "none")
    }

    /// A text that somebody has set.
    fn text(&self, name: &str) -> Option<&str> {
        match self.set.iter().find(|(set, _)| *set == name) {
            Some((_, QObject::Text(text))) => Some(text),
            _ => None,
        }
    }

    /// `migrate-set-parameters`: all that are given, or none.
    ///
    /// # Errors
    /// For the first that is out of its range.
    pub(crate) fn set(&mut self, arguments: Arguments<'_>, release: Release) -> Result<(), QmpError> {
        let mut wanted = Vec::new();
        for known in KNOWN.iter().filter(|known| known.releases.contains(&release)) {
            let name = known.key.name;
            let Some(value) = arguments.0.get(name) else { continue };
            if let Some(number) = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned)) {
                self.check(known, number, arguments, release)?;
            }
            let forgotten = release.compression_levels_are_forgotten()
                && matches!(name, "multifd-zlib-level" | "multifd-zstd-level");
            if !forgotten {
                wanted.push((name, shown(name, value)?));
            }
        }
        for (name, value) in wanted {
            self.set.retain(|(set, _)| *set != name);
            self.set.push((name, value));
        }
        Ok(())
    }

    /// `query-migrate-parameters`.
    pub(crate) fn query(&self, release: Release) -> QObject {
        let mut reply = QDict::default();
        for known in KNOWN.iter().filter(|known| known.releases.contains(&release)) {
            let set =
                self.set.iter().find(|(name, _)| *name == known.key.name).map(|(_, value)| value.clone());
            let value = set.or(match known.initial {
                Initial::Number(number) => Some(number.into()),
                Initial::Flag(flag) => Some(flag.into()),
                Initial::Text(text) => Some(text.into()),
                Initial::List => Some(QObject::List(Vec::new())),
                Initial::Absent => None,
            });
            if let Some(value) = value {
                reply.put(known.key, value);
            }
        }
        reply.into()
    }

    fn check(
        &self,
        known: &Parameter,
        number: u64,
        arguments: Arguments<'_>,
        release: Release,
    ) -> Result<(), QmpError> {
        let name = known.key.name;
        let refuse = |why: String| Err(QmpError::generic(why));
        if release > OLDEST && BYTES.contains(&name) && number > u64::from(u8::MAX) {
            return refuse(format!("Parameter '{name}' expects uint8_t"));
        }
        if name == "max-cpu-throttle" {
            let initial = "cpu-throttle-initial";
            let least = arguments.0.get(initial).and_then(Value::as_u64).unwrap_or(self.number(initial));
            let initial = spelt(initial, release);
            return match (least..=99).contains(&number) {
                true => Ok(()),
                false => refuse(format!(
                    "{} expects an integer in the range of {initial} to 99",
                    subject(name, release)
                )),
            };
        }
        if name == "vcpu-dirty-limit" && number < 1 {
            return refuse(format!("Parameter '{}' must be greater than 1 MB/s", spelt(name, release)));
        }
        let Some(limit) = &known.limit else { return Ok(()) };
        let unchecked =
            release.compression_levels_are_forgotten() && name.ends_with("-level") && name.starts_with('m');
        if unchecked || (limit.range.contains(&number) && (!limit.power_of_two || number.is_power_of_two())) {
            return Ok(());
        }
        let expected = if release == OLDEST { limit.oldest } else { limit.later };
        refuse(format!("{} expects {expected}", subject(name, release)))
    }
}

/// How an error begins: older releases name their own variable.
fn subject(name: &str, release: Release) -> String {
    match release {
        Release::V11_1 if name == "x-rdma-chunk-size" => "Option x_rdma_chunk_size".into(),
        Release::V11_1 => format!("Option {name}"),
        _ => format!("Parameter '{}'", spelt(name, release)),
    }
}

fn spelt(name: &str, release: Release) -> String {
    if release >= Release::V11_1 || name.starts_with("x-") { name.into() } else { name.replace('-', "_") }
}

/// A value as the query shows it.
fn shown(name: &str, value: &Value) -> Result<QObject, QmpError> {
    Ok(match value {
        Value::Null => "".into(),
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => {
            number.as_u64().or_else(|| number.as_i64().map(i64::cast_unsigned)).unwrap_or(0).into()
        }
        Value::String(text) => text.clone().into(),
        Value::Array(nodes) if name == "block-bitmap-mapping" => bitmap_mapping(nodes)?,
        Value::Array(texts) => {
            texts.iter().filter_map(Value::as_str).map(|text| text.to_owned().into()).collect()
        }
        Value::Object(_) => return Err(not_simulated(&format!("`{name}` that is a structure"))),
    })
}

/// `block-bitmap-mapping`: which bitmaps go along, and under what names.
fn bitmap_mapping(nodes: &[Value]) -> Result<QObject, QmpError> {
    let mut seen: Vec<&str> = Vec::new();
    let mut mapping = Vec::new();
    for node in nodes.iter().filter_map(Value::as_object).map(Arguments) {
        let name = node.text("node-name");
        if seen.contains(&name) {
            return Err(QmpError::generic(format!(
                "Invalid mapping given for block-bitmap-mapping: The node name '{name}' is mapped twice"
            )));
        }
        seen.push(name);
        let mut bitmaps = Vec::new();
        for bitmap in node.list("bitmaps").iter().filter_map(Value::as_object).map(Arguments) {
            bitmap.only(&["name", "alias"])?;
            let [name, alias] = ["name", "alias"].map(|member| bitmap.text(member).to_owned());
            bitmaps.push(qdict! { "name": name, "alias": alias }.into());
        }
        let alias = node.text("alias").to_owned();
        let bitmaps = QObject::List(bitmaps);
        mapping.push(qdict! { "node-name": name.to_owned(), "alias": alias, "bitmaps": bitmaps }.into());
    }
    Ok(QObject::List(mapping))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(release: Release, arguments: &Value) -> (Parameters, Result<(), String>) {
        let mut parameters = Parameters::default();
        let outcome = parameters.set(Arguments(arguments.as_object().expect("an object")), release);
        (parameters, outcome.map_err(|error| error.desc))
    }

    #[test]
    fn a_number_out_of_range_is_refused_in_the_words_of_the_release() {
        let words = [
            (Release::V5_2, "Parameter 'announce_max' expects is invalid, it must be less than 100000 ms"),
            (Release::V10_0, "Parameter 'announce_max' expects a value between 0 and 100000"),
            (Release::V11_1, "Option announce-max expects a value between 0 and 100000"),
        ];
        for (release, text) in words {
            assert_eq!(set(release, &json!({ "announce-max": 100_001 })).1, Err(text.to_owned()));
        }
    }

    #[test]
    fn one_that_is_refused_lets_none_be_set() {
        let (parameters, refused) = set(Release::V10_0, &json!({ "max-bandwidth": 5, "announce-step": 0 }));
        assert!(refused.is_err());
        assert_eq!(parameters.number("max-bandwidth"), 128 << 20);
    }

    #[test]
    fn a_negative_size_is_a_huge_one() {
        let (parameters, set) = set(Release::V10_0, &json!({ "max-bandwidth": -1 }));
        assert_eq!((parameters.number("max-bandwidth"), set), (u64::MAX, Ok(())));
    }

    #[test]
    fn older_releases_forget_levels_of_compression() {
        for (release, kept) in [(Release::V7_2, 1), (Release::V10_0, 3)] {
            let (parameters, _) = set(release, &json!({ "multifd-zlib-level": 3 }));
            assert_eq!(parameters.number("multifd-zlib-level"), kept);
        }
    }
}
