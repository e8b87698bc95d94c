mod commands;
mod handover;
mod hygiene;
mod passthrough;
mod power;
mod program;
mod unit;
mod variants;
