mod handover;
mod variants;
