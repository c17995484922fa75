//! What stands around a store and has a say in each of its calls: a trace, or bad weather.

use super::{Call, Store};

/// Stands around a store, and so is one.
pub trait Around: Send + Sync + 'static {
    /// The store that is asked. It is taken anew for each call.
    fn inner(&self) -> &dyn Store;

    /// Makes a call, which has not begun, of this name.
    fn around<'a, T: Send + 'a>(&'a self, operation: &'static str, call: Call<'a, T>) -> Call<'a, T>;
}

/// Declares a part of the store. Whatever stands around one has each of its calls.
macro_rules! store_part {
    (
        $(#[$doc:meta])*
        pub trait $part:ident {$(
            $(#[$call_doc:meta])*
            fn $call:ident($($argument:ident: $kind:ty),*) -> $result:ty;
        )+}
    ) => {
        $(#[$doc])*
        pub trait $part: Send + Sync + 'static {$(
            $(#[$call_doc])*
            fn $call<'a>(&'a self, $($argument: $kind),*) -> $crate::store::Call<'a, $result>;
        )+}

        impl<A: $crate::store::Around> $part for A {$(
            fn $call<'a>(&'a self, $($argument: $kind),*) -> $crate::store::Call<'a, $result> {
                self.around(stringify!($call), self.inner().$call($($argument),*))
            }
        )+}
    };
}
pub(super) use store_part;
