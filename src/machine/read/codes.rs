//! What kinds of errors `ron` reports.

use ron::error::Error;

/// Errors of the text's form, which have their place where `ron` stopped, not at a value.
pub(super) fn is_syntax(code: &Error) -> bool {
    use Error as E;
    matches!(
        code,
        E::Eof
            | E::ExpectedArrayEnd
            | E::ExpectedAttribute
            | E::ExpectedAttributeEnd
            | E::ExpectedComma
            | E::ExpectedMapColon
            | E::ExpectedMapEnd
            | E::ExpectedOptionEnd
            | E::ExpectedStringEnd
            | E::ExpectedStructLikeEnd
            | E::InvalidEscape(_)
            | E::InvalidIdentifier(_)
            | E::NoSuchExtension(_)
            | E::TrailingCharacters
            | E::UnclosedBlockComment
            | E::UnclosedLineComment
            | E::UnexpectedChar(_)
            | E::ExceededRecursionLimit
    )
}

/// Whether the error is of one value or name, without which the rest can be read.
pub(super) fn is_of_a_value(code: &Error) -> bool {
    !is_syntax(code)
        && !matches!(
            code,
            Error::MissingStructField { .. } | Error::DuplicateStructField { .. } | Error::ExpectedIdentifier
        )
}
