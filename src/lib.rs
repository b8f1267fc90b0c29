pub mod core;
pub mod doors;
pub mod providers;
pub mod store;
