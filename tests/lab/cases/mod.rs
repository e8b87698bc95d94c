mod commands;
mod handover;
mod hygiene;
mod power;
mod variants;
