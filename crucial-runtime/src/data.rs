//! What travels.

/// What everything that travels has to be: arguments, results, fields, and the type arguments of shared structs.
///
/// Every type that fits has it. As a bound it is for code that is generic itself, like generic cloud functions.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be sent to another process",
    label = "can't be sent",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it; it must own its data (`'static`) and be `Send + Sync`"
)]
pub trait Data: serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static {}
// What is missing is said in the words above, not in serde's.
#[diagnostic::do_not_recommend]
impl<T: serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static> Data for T {}
