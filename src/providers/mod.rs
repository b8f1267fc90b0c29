//! Those who speak for models.

pub mod scripted;
