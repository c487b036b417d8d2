//! What is sealed opens at its own place and nowhere else, and no flipped bit
//! goes unnoticed.

use galley_core::ids::{AccountId, WorkspaceId};
use galley_store::DataKeyRow;
use proptest::prelude::*;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::envelope::{self, ContentPlace, DataKey, Place};
use super::{Keyring, KeyringError, VaultError};

fn place(name: &str) -> Place<'_> {
    Place {
        workspace: WorkspaceId(Uuid::from_u128(1)),
        account: AccountId(Uuid::from_u128(2)),
        name,
        data_key: 1,
    }
}

fn hex_of(byte: u8) -> String {
    hex::encode([byte; 32])
}

/// A flipped bit of `bytes`.
fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = at % (bytes.len() * 8);
    bytes[at / 8] ^= 1 << (at % 8);
    bytes
}

fn opened(
    row: &DataKeyRow,
    keyring: &Keyring,
    place: &Place<'_>,
    sealed: &[u8],
) -> Result<String, VaultError> {
    let key = keyring.unwrap(row)?;
    key.open(place, sealed).map(|secret| secret.expose_secret().to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any bit, any neighbour: of the row, the workspace, the account, the name
    /// and the keys.
    #[test]
    fn a_credential_opens_only_where_it_was_sealed(
        secret in "\\PC{0,40}",
        name in "[a-z][a-z0-9_]{0,8}",
        other_name in "[a-z][a-z0-9_]{0,8}",
        (workspace, account) in (1_u128.., 1_u128..),
        (bit, key_bit) in (0_usize..100_000, 0_usize..100_000),
        kek in 1_u8..,
    ) {
        let keyring = Keyring::read(&format!("3:{}\n4:{}", hex_of(kek), hex_of(kek - 1))).unwrap();
        let here = Place {
            workspace: WorkspaceId(Uuid::from_u128(workspace)),
            account: AccountId(Uuid::from_u128(account)),
            name: &name,
            data_key: 1,
        };
        let key = DataKey::random();
        let row = keyring.wrap(here.workspace, 1, &key).unwrap();
        prop_assert_eq!(row.kek_version, 4, "the newest key wraps");
        let sealed = key.seal(&here, &SecretString::from(secret.clone())).unwrap();
        prop_assert_eq!(opened(&row, &keyring, &here, &sealed), Ok(secret.clone()));

        let not = |what: Result<String, VaultError>| what == Err(VaultError::Unopenable);
        // A flipped bit of either.
        prop_assert!(not(opened(&row, &keyring, &here, &flipped(&sealed, bit))));
        let damaged = DataKeyRow { wrapped: flipped(&row.wrapped, key_bit), ..row.clone() };
        prop_assert!(not(opened(&damaged, &keyring, &here, &sealed)));
        prop_assert!(not(opened(&row, &keyring, &here, &sealed[..sealed.len() - 1])));
        // Another place.
        let next = Uuid::from_u128(workspace.wrapping_add(1));
        let moved = Place { workspace: WorkspaceId(next), ..here };
        prop_assert!(not(opened(&row, &keyring, &moved, &sealed)));
        let stolen = DataKeyRow { workspace: WorkspaceId(next), ..row.clone() };
        prop_assert!(not(opened(&stolen, &keyring, &here, &sealed)));
        let swapped = Place { account: AccountId(Uuid::from_u128(account.wrapping_add(1))), ..here };
        prop_assert!(not(opened(&row, &keyring, &swapped, &sealed)));
        if name != other_name {
            let renamed = Place { name: &other_name, ..here };
            prop_assert!(not(opened(&row, &keyring, &renamed, &sealed)));
        }
        let next_key = Place { data_key: 2, ..here };
        prop_assert!(not(opened(&row, &keyring, &next_key, &sealed)));
        // Another key: of the workspace, and of the deployment under the same
        // or another version.
        prop_assert!(not(DataKey::random().open(&here, &sealed).map(|_| String::new())));
        let renamed = DataKeyRow { kek_version: 3, ..row.clone() };
        prop_assert!(not(opened(&renamed, &keyring, &here, &sealed)));
        let lost = DataKeyRow { kek_version: 9, ..row };
        prop_assert_eq!(opened(&lost, &keyring, &here, &sealed), Err(VaultError::UnknownKey(9)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any bit, any neighbour: of the workspace, the table, the row and the key.
    #[test]
    fn content_opens_only_in_its_row(
        json in "\\PC{0,40}",
        (workspace, id) in (1_u128.., 1_u128..),
        (table, step, epoch) in (1_u8..=4, 0_u16.., 0_u32..),
        bit in 0_usize..100_000,
    ) {
        let here = ContentPlace {
            workspace: WorkspaceId(Uuid::from_u128(workspace)),
            table,
            id: Uuid::from_u128(id),
            step,
            epoch,
            data_key: 1,
        };
        let key = DataKey::random();
        let sealed = key.seal_content(&here, &json).unwrap();
        prop_assert_eq!(envelope::content_key(&sealed), Some(1));
        prop_assert_eq!(key.open_content(&here, &sealed), Ok(json.clone()));
        let not = |place: &ContentPlace, sealed: &[u8]| {
            key.open_content(place, sealed) == Err(VaultError::Unopenable)
        };
        // The version says which key to take, and is bound by that key's own.
        let damaged = flipped(&sealed, bit);
        prop_assert!(envelope::content_key(&damaged) != Some(1) || not(&here, &damaged));
        prop_assert!(not(&here, &sealed[..sealed.len() - 1]));
        let next = |id: Uuid| Uuid::from_u128(id.as_u128().wrapping_add(1));
        for elsewhere in [
            ContentPlace { workspace: WorkspaceId(next(here.workspace.0)), ..here },
            ContentPlace { table: table + 1, ..here },
            ContentPlace { id: next(here.id), ..here },
            ContentPlace { step: step.wrapping_add(1), ..here },
            ContentPlace { epoch: epoch.wrapping_add(1), ..here },
            ContentPlace { data_key: 2, ..here },
        ] {
            prop_assert!(not(&elsewhere, &sealed), "{:?}", elsewhere);
        }
        prop_assert_eq!(DataKey::random().open_content(&here, &sealed), Err(VaultError::Unopenable));
    }
}

#[test]
fn a_credential_of_the_first_format_opens_with_key_one() {
    let (workspace, account) = (place("a").workspace, place("a").account);
    let sealed = envelope::seal_first_format(&[7; 32], workspace, account, "token");
    let open = |keyring: &Keyring, account, sealed: &[u8]| {
        keyring.open_first_format(workspace, account, sealed).map(|secret| secret.expose_secret().to_owned())
    };
    let keyring = Keyring::single(&hex_of(7)).unwrap();
    let newer = keyring.with(&Keyring::read(&format!("2:{}", hex_of(8))).unwrap()).unwrap();
    assert_eq!(open(&newer, account, &sealed), Ok("token".to_owned()));
    assert!(envelope::is_first_format(&sealed));
    let elsewhere = AccountId(Uuid::from_u128(3));
    assert_eq!(open(&keyring, elsewhere, &sealed), Err(VaultError::Unopenable));
    for bit in 0..sealed.len() * 8 {
        assert_eq!(open(&keyring, account, &flipped(&sealed, bit)), Err(VaultError::Unopenable), "bit {bit}");
    }
    let other = Keyring::read(&format!("2:{}", hex_of(7))).unwrap();
    assert_eq!(open(&other, account, &sealed), Err(VaultError::UnknownKey(1)));
}

#[test]
fn keys_are_read_told_apart_and_never_shown() {
    let lines = format!("# old\n1:{}\n\n 12 : {} \n", hex_of(1), hex_of(2));
    let keyring = Keyring::read(&lines).unwrap();
    assert_eq!((keyring.versions(), keyring.newest()), (vec![1, 12], 12));
    assert_eq!(format!("{keyring:?}"), "Keyring([1, 12])");
    for (text, wanted) in [
        ("", KeyringError::Empty),
        ("# nothing", KeyringError::Empty),
        ("1", KeyringError::BadLine(1)),
        ("\n1:07", KeyringError::BadLine(2)),
        (&format!("0:{}", hex_of(1)), KeyringError::BadLine(1)),
        (&format!("3000000000:{}", hex_of(1)), KeyringError::BadLine(1)),
        (&format!("1:{}\n1:{}", hex_of(1), hex_of(2)), KeyringError::TwoKeys(1)),
    ] {
        let refused = Keyring::read(text).unwrap_err();
        assert_eq!(refused, wanted, "{text}");
        assert!(!refused.to_string().contains(&hex_of(1)), "an error shows a key");
    }
    // The same key twice is one.
    assert_eq!(Keyring::read(&format!("1:{0}\n1:{0}", hex_of(1))).unwrap().versions(), [1]);
    assert_eq!(Keyring::single("0707").unwrap_err(), KeyringError::BadKey);
    let single = Keyring::single(&hex_of(9)).unwrap();
    assert_eq!(single.with(&keyring).unwrap_err(), KeyringError::TwoKeys(1));
}

#[test]
fn the_sealed_bytes_do_not_show_the_secret() {
    let sealed = DataKey::random().seal(&place("a"), &"token".to_owned().into()).unwrap();
    assert!(!sealed.windows(5).any(|part| part == b"token"));
}
