//! The attributes of crucial.
