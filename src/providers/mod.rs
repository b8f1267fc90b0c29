//! Those who speak for models.

pub mod context_windows;
pub mod genai;
pub mod scripted;
