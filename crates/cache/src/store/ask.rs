//! What a request wants of a shard.

use std::cell::Cell;
use std::sync::Arc;

use super::object::{Key, Names, Object};
use super::purge::Purges;

/// Puts together which variant a request wants, of these names.
pub type Variant<'a> = &'a mut dyn FnMut(&[Box<[u8]>], &mut Vec<u8>);

/// The variant that a request wants, put together once for each set of names.
pub struct Wanted<'a, 'b> {
    variant: Variant<'a>,
    value: &'b mut Vec<u8>,
    /// What `value` is made of.
    names: Names,
}

impl<'a, 'b> Wanted<'a, 'b> {
    /// Put together into `value`, when it is needed.
    pub fn new(variant: Variant<'a>, value: &'b mut Vec<u8>) -> Self {
        Self {
            variant,
            value,
            names: None,
        }
    }

    /// Whether it is this one.
    pub fn is(&mut self, names: Option<&Arc<[Box<[u8]>]>>, value: &[u8]) -> bool {
        names.is_none_or(|names| *self.value(Some(names)) == *value)
    }

    /// It, of these names.
    pub fn value(&mut self, names: Option<&Arc<[Box<[u8]>]>>) -> &[u8] {
        let Some(names) = names else {
            return &[];
        };
        if !self
            .names
            .as_ref()
            .is_some_and(|made| Arc::ptr_eq(made, names))
        {
            self.value.clear();
            (self.variant)(names, self.value);
            self.names = Some(Arc::clone(names));
        }
        self.value
    }
}

/// What a request asks, and against what it is compared.
pub struct Ask<'a> {
    /// Of what.
    pub key: &'a Key<'a>,
    /// When (Unix ms).
    pub now_ms: u64,
    /// The purges there have been.
    pub purges: &'a Purges,
    /// What is worth it is kept on disk, too.
    pub has_disk: bool,
    /// What was found is.
    pub is_worth_saving: Cell<bool>,
}

/// What the one that wants to fetch has found before.
#[derive(Clone, Copy)]
pub enum Seen<'a> {
    /// It fetches whatever is there.
    Whatever,
    /// Nothing: it does not fetch if something is there by now.
    Nothing,
    /// This, which does not do: it does not fetch if something else is there by now.
    Object(&'a Arc<Object>),
}
