//! Pictures in SVG: blocks of rectangles and texts, put together and written as a document. No style sheet, no script and no
//! font of its own, so that whatever shows it shows the same, on light and on dark pages.

pub(super) mod block;
pub(super) mod colours;
mod xml;

pub(super) use xml::document;
