//! Keys, properties and words that the table has and the program does not honour yet: refused as "not built yet", and in no
//! manual or schema. Whoever builds one deletes its line.

/// Block (`*` is any) and key.
pub(crate) static KEYS: &[(&str, &str)] = &[];

/// Key and property.
pub(crate) static PROPS: &[(&str, &str)] = &[];

/// Key and word of its first value.
pub(crate) static WORDS: &[(&str, &str)] = &[];

/// Is this key of this block not built yet?
pub(crate) fn key(block: &str, key: &str) -> bool {
    KEYS.iter()
        .any(|(b, k)| *k == key && (*b == block || *b == "*"))
}

/// Is this property of this key not built yet?
pub(crate) fn prop(key: &str, prop: &str) -> bool {
    PROPS.contains(&(key, prop))
}

/// Is this word of this key not built yet?
pub(crate) fn word(key: &str, word: &str) -> bool {
    WORDS.contains(&(key, word))
}

/// What to do instead.
pub(crate) const REMEDY: &str = "leave it out; what is around it works without it";
