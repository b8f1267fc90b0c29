//! Who may come in: pure rules that the doors apply.

pub mod origin;
