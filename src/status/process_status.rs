//! Parses the status of one process, and formats both as JSON.

use crate::json;
use crate::status::keys::{DOORKEEPER_KEYS, Key, ValueType, WATCHER_KEYS};
use crate::status::writer::END_LINE;

/// The status of one process, in the order of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessStatus(Vec<(String, String)>);

/// One item of a list.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a>(&'a [(String, String)]);

impl ProcessStatus {
    /// Parses the lines; `None` unless they are complete. Bytes that are not UTF-8 become U+FFFD and control
    /// characters become question marks, as the output may go to a terminal.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<ProcessStatus> {
        let text = String::from_utf8_lossy(text);
        let mut entries = Vec::new();
        for line in text.split_terminator('\n') {
            if line == END_LINE {
                return Some(ProcessStatus(entries));
            }
            let line: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            let (key, value) = line.split_once(' ')?;
            entries.push((key.to_owned(), value.to_owned()));
        }
        None
    }

    /// The value of a key outside of lists.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        Item(&self.0).get(key)
    }

    /// The value of a key outside of lists, as a number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        Item(&self.0).number(key)
    }

    /// The items of the list whose first key is `first`.
    pub fn items(&self, first: &str) -> impl Iterator<Item = Item<'_>> {
        let starts: Vec<usize> = (0..).zip(&self.0).filter(|(_, it)| it.0 == first).map(|it| it.0).collect();
        let is_inside = move |key: &str| key.strip_prefix(first).is_some_and(|rest| rest.starts_with('.'));
        starts.into_iter().filter_map(move |start| {
            let rest = self.0.get(start + 1..)?;
            let length = rest.iter().take_while(|it| is_inside(&it.0)).count();
            self.0.get(start..=start + length).map(Item)
        })
    }

    fn json(&self, keys: &[Key]) -> String {
        let mut members: Vec<(&str, String)> = Vec::new();
        for key in keys {
            match key.list {
                None => members.push((key.name, json_value(key, self.get(key.line)))),
                Some(list) if members.iter().all(|(name, _)| *name != list) => {
                    let of_list: Vec<&Key> = keys.iter().filter(|key| key.list == Some(list)).collect();
                    let object = |item: Item<'_>| {
                        json::object(
                            of_list.iter().map(|key| (key.name, json_value(key, item.get(key.line)))),
                        )
                    };
                    let items: Vec<String> = self.items(key.line).map(object).collect();
                    members.push((list, json::array(&items)));
                }
                Some(_) => {}
            }
        }
        json::object(members)
    }
}

impl<'a> Item<'a> {
    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|it| it.0 == key).map(|it| it.1.as_str())
    }

    /// The value of a key, as a number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }
}

/// The value of a key in JSON; `null` if it is absent or of another type.
fn json_value(key: &Key, value: Option<&str>) -> String {
    let json = value.and_then(|value| match key.value_type {
        ValueType::Text => Some(json::string(value)),
        ValueType::Number => value.parse::<u64>().ok().map(|number| number.to_string()),
        ValueType::Flag => match value {
            "yes" => Some("true".to_owned()),
            "no" => Some("false".to_owned()),
            _ => None,
        },
    });
    json.unwrap_or_else(|| "null".to_owned())
}

/// Formats the status of both processes as one JSON object; `null` for a process that did not answer.
#[must_use]
pub fn json(watcher: Option<&ProcessStatus>, doorkeeper: Option<&ProcessStatus>) -> String {
    let of = |status: Option<&ProcessStatus>, keys| {
        status.map_or_else(|| "null".to_owned(), |status| status.json(keys))
    };
    json::object([("watcher", of(watcher, WATCHER_KEYS)), ("doorkeeper", of(doorkeeper, DOORKEEPER_KEYS))])
        + "\n"
}
