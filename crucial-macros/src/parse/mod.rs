//! From tokens to the model. What can't be understood is noted as an error and left out.

pub mod cloud_fn;
pub mod entry;
pub mod instances;
pub mod options;
pub mod params;
pub mod shared_fn;
pub mod shared_impl;
pub mod shared_static;
pub mod shared_struct;
pub mod units;
