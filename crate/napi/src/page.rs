//! Writing a page field by field.
