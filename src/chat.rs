//! The chat language.
