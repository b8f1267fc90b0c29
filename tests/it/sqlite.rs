//! The store in SQLite, seen from outside: what a file survives, and what it refuses.
