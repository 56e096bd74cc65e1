//! The configuration as a tree of values while it is put together, so that faults name their key.

use toml::{Table, Value};

use super::{Config, ConfigError};

/// The defaults with what file and environment set on top.
pub(super) struct Tree {
    defaults: Table,
    values: Table,
}

const PREFIX: &str = "PLENUM_";
/// The one table whose keys are free: API key ids.
const FREE: [&str; 2] = ["auth", "keys"];

impl Tree {
    pub(super) fn with_defaults() -> Self {
        let defaults = Table::try_from(Config::default()).unwrap_or_default();
        Self {
            values: defaults.clone(),
            defaults,
        }
    }

    pub(super) fn overlay_file(&mut self, text: &str, origin: &str) -> Result<(), ConfigError> {
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| ConfigError::Syntax {
                path: origin.to_owned(),
                reason: error.to_string(),
            })?;
        self.overlay(&mut Vec::new(), table, origin)
    }

    fn overlay(
        &mut self,
        path: &mut Vec<String>,
        table: Table,
        origin: &str,
    ) -> Result<(), ConfigError> {
        for (key, value) in table {
            path.push(key);
            match value {
                Value::Table(inner) if self.is_table(path) => self.overlay(path, inner, origin)?,
                value => self.set(path, value, origin)?,
            }
            path.pop();
        }
        Ok(())
    }

    /// `PLENUM_HTTP__ADDR=…`; other variables are left alone.
    pub(super) fn overlay_variable(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        let Some((section, key)) = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once("__"))
        else {
            return Ok(());
        };
        let mut path = vec![section.to_lowercase()];
        if let Some(id) = key.strip_prefix("KEYS__").filter(|_| section == "AUTH") {
            path.extend(["keys".to_owned(), id.to_owned()]);
        } else {
            path.push(key.to_lowercase());
        }
        let value = match lookup(&self.defaults, &path) {
            Some(Value::String(_)) => Value::String(text.to_owned()),
            _ if is_free(&path) => Value::String(text.to_owned()),
            Some(Value::Array(_)) if !text.trim_start().starts_with('[') => {
                let items = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
            }
            _ => parse_value(text).ok_or_else(|| bad(&path, name, "not a value"))?,
        };
        self.set(&path, value, name)
    }

    /// Sets one option, after trying it alone: what is wrong with it then is wrong with this key.
    fn set(&mut self, path: &[String], value: Value, origin: &str) -> Result<(), ConfigError> {
        if lookup(&self.defaults, path).is_none() && !is_free(path) {
            let (key, origin) = (path.join("."), origin.to_owned());
            return Err(ConfigError::UnknownKey { key, origin });
        }
        let mut alone = self.defaults.clone();
        insert(&mut alone, path, value.clone());
        if let Err(error) = Value::Table(alone).try_into::<Config>() {
            return Err(bad(path, origin, error.message()));
        }
        insert(&mut self.values, path, value);
        Ok(())
    }

    fn is_table(&self, path: &[String]) -> bool {
        matches!(lookup(&self.defaults, path), Some(Value::Table(_)))
    }

    pub(super) fn into_config(self) -> Result<Config, ConfigError> {
        let values = Value::Table(self.values);
        values
            .try_into()
            .map_err(|error| bad(&[], "configuration", error.message()))
    }
}

fn lookup<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let value = table.get(first)?;
    if rest.is_empty() {
        Some(value)
    } else {
        lookup(value.as_table()?, rest)
    }
}

fn insert(table: &mut Table, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let inner = table
        .entry(first.clone())
        .or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(inner) = inner {
        insert(inner, rest, value);
    }
}

fn is_free(path: &[String]) -> bool {
    path.len() == 3 && path.starts_with(&FREE.map(str::to_owned))
}

fn parse_value(text: &str) -> Option<Value> {
    let table: Table = format!("value = {text}").parse().ok()?;
    // A value with line breaks could smuggle further keys in.
    (table.len() == 1)
        .then(|| table.get("value").cloned())
        .flatten()
}

fn bad(path: &[String], origin: &str, reason: &str) -> ConfigError {
    ConfigError::BadValue {
        key: path.join("."),
        origin: origin.to_owned(),
        reason: reason.trim_end().to_owned(),
    }
}
