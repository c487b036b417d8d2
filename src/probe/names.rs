//! Enums whose variants have a name and a sentence, written down once.

/// An enum of places: `/// sentence` and `Variant = "name"` each.
macro_rules! names {
    (
        $(#[doc = $what:literal])*
        pub enum $Enum:ident {
            $( $(#[doc = $says:literal])+ $Variant:ident = $name:literal, )+
        }
    ) => {
        $(#[doc = $what])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $Enum {
            $( $(#[doc = $says])+ $Variant, )+
        }

        impl $Enum {
            /// All of them, in the order of their list.
            pub const ALL: &'static [Self] = &[$( Self::$Variant, )+];

            /// The name in the environment and in files.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$Variant => $name, )+ }
            }

            /// What it is, for people.
            #[must_use]
            pub fn says(self) -> &'static str {
                match self { $( Self::$Variant => concat!($($says,)+).trim_ascii(), )+ }
            }

            /// The one of a name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }

        impl std::fmt::Display for $Enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

pub(crate) use names;
