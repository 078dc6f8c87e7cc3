//! What the macros expand to, seen from both sides: as a program uses it, and as a server drives it.

#[path = "expand/functions.rs"]
mod functions;
#[path = "expand/objects.rs"]
mod objects;
#[path = "expand/shared_fns.rs"]
mod shared_fns;
#[path = "expand/statics.rs"]
mod statics;
