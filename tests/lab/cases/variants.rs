//! Each variant boots and is what it claims.
