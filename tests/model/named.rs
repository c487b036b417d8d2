//! What every model names: its rescues, its shortcuts, and how it is searched.

/// `Witness`: states that a search must have seen, or it proved nothing.
macro_rules! witnesses {
    ($model:ident: $($(#[doc = $doc:literal])+ $name:ident, $text:literal, $seen:expr;)+) => {
        /// Something that must be seen to happen.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Witness {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Witness {
            /// Every witness: a test requires that some theme sees each.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The search must reach it.
            pub(crate) fn property(self) -> stateright::Property<$model> {
                let (text, seen): (_, fn(&$model, &State) -> bool) = match self {
                    $(Self::$name => ($text, $seen),)+
                };
                stateright::Property::sometimes(text, seen)
            }
        }
    };
}
pub(crate) use witnesses;

/// `Shortcut`: deliberate mistakes, each of which must break a promise.
macro_rules! shortcuts {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One deliberate mistake.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Shortcut {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Shortcut {
            /// Every shortcut: a test that forgets one fails.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
        }
    };
}
pub(crate) use shortcuts;

/// How the checker walks a model: from its beginnings, by what a healthy system
/// does and what may go wrong, under its promises and witnesses.
macro_rules! searched {
    ($model:ident from $beginnings:ident) => {
        impl stateright::Model for $model {
            type State = State;
            type Action = Action;

            fn init_states(&self) -> Vec<State> {
                self.$beginnings()
            }

            fn actions(&self, state: &State, out: &mut Vec<Action>) {
                self.moves(state, out);
                self.faults(state, out);
            }

            fn next_state(&self, before: &State, action: Action) -> Option<State> {
                Some(self.next(before, action))
            }

            fn properties(&self) -> Vec<stateright::Property<Self>> {
                let mut all = property::promises();
                all.extend(self.witnesses.iter().map(|witness| witness.property()));
                all
            }
        }

        impl crate::check::Searched for $model {
            fn without_witnesses(&self) -> Self {
                Self { witnesses: &[], ..Clone::clone(self) }
            }
        }
    };
}
pub(crate) use searched;
