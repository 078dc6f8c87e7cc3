//! What the model may not say. Every finding is an error on its token; what is left is sound to expand.

mod cloud_fn;
mod entry;
mod instances;
mod lost;
mod shared_fn;
mod shared_impl;
mod shared_struct;
mod signature;
mod then;
mod types;

pub use cloud_fn::cloud_fn;
pub use entry::entry;
pub use shared_fn::shared_fn;
pub use shared_impl::shared_impl;
pub use shared_struct::shared_struct;
