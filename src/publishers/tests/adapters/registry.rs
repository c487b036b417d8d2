//! The adapters of one process.

use galley_publishers::{Options, Preview, Publishers, SetupError};

#[test]
fn the_built_in_platforms_are_found_by_their_word() {
    let publishers = Publishers::built_in(Options::default()).unwrap();
    assert_eq!(publishers.platforms().collect::<Vec<_>>(), ["preview", "webhook"]);
    for platform in publishers.platforms() {
        let publisher = publishers.get(platform).unwrap();
        assert_eq!(publisher.platform(), platform);
        assert!(!publisher.description().is_empty());
    }
    assert!(publishers.get("nowhere").is_none());
}

#[test]
fn a_platform_has_one_adapter() {
    let mut publishers = Publishers::new();
    publishers.register(Preview::new(Options::default()).unwrap()).unwrap();
    let again = publishers.register(Preview::new(Options::default()).unwrap());
    assert!(matches!(again, Err(SetupError::Duplicate("preview"))));
}
