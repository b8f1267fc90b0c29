//! The ways in and out. Each translates between the core and a wire; none holds state that another lacks.

pub mod reply;
pub mod wire;
