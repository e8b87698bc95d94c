mod commands;
mod handover;
mod hygiene;
mod power;
mod program;
mod unit;
mod variants;
