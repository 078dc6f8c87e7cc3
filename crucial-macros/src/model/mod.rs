//! What the attributes stand for, without how it was written.

mod attrs;
mod cloud_fn;
mod entry;
mod instances;
mod shared_fn;
mod shared_impl;
mod shared_static;
mod shared_struct;
mod value;

pub use attrs::Attrs;
pub use cloud_fn::{CloudFn, FnOptions};
pub use entry::{Entry, Mode};
pub use instances::{Instance, Instances};
pub use shared_fn::{SharedFn, Target};
pub use shared_impl::{Access, Constructor, Method, Receiver, SharedImpl, Then, args, mentions_arg};
pub use shared_static::{Initializer, SharedStatic};
pub use shared_struct::{Field, SharedStruct};
pub use value::{Arg, ArgKind, Output, Param, is_block, peel};
