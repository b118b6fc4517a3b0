//! The page's fields as JavaScript objects: in snapshots, and for programs that write a page.

use std::cell::RefCell;
use std::path::Path;

use napi::bindgen_prelude::{BigInt, Either};
use napi_derive::napi;
use vmclock::Error;
use vmclock::abi::{field, page_fields};
use vmclock::no_bound::NoBound;
use vmclock::snapshot::{RawFields, Snapshot};
use vmclock::writer::{PageHeader, PageLayout, PageWriter, blank};

use crate::failure::{Failure, Outcome, outcome};

/// Converts a field from JavaScript, which passes it as a `Js`.
trait JsField<Js>: Sized {
    /// Returns the field, or `None` if the value does not fit it.
    fn from_js(value: Js) -> Option<Self>;

    /// The range of a number; 0 to 0 for a bigint, which has no range of its own.
    const RANGE: (f64, f64);
}

macro_rules! number_fields {
    ($($type:ident as $js:ident),*) => {
        $(impl JsField<$js> for $type {
            fn from_js(value: $js) -> Option<Self> {
                value.try_into().ok()
            }

            const RANGE: (f64, f64) = ($type::MIN as f64, $type::MAX as f64);
        })*
    };
}
number_fields!(u8 as u32, u16 as u32, u32 as u32, i16 as i32);

impl JsField<BigInt> for u64 {
    fn from_js(value: BigInt) -> Option<Self> {
        match value.get_u64() {
            (false, word, true) => Some(word),
            _ => None,
        }
    }

    const RANGE: (f64, f64) = (0.0, 0.0);
}

fn converted<Js, T: JsField<Js>>(name: &str, value: Js) -> std::result::Result<T, Failure> {
    T::from_js(value)
        .ok_or_else(|| Failure::argument(&format!("{name} does not fit its field in the page")))
}

macro_rules! field_objects {
    (
        in_every_page {$(
            $every:ident $every_constant:ident: $every_type:ident as $every_js:ident =
                $every_offset:literal, $every_doc:literal;
        )*}
        where_size_covers_them {$(
            $sized:ident $sized_constant:ident: $sized_type:ident as $sized_js:ident =
                $sized_offset:literal, $sized_doc:literal;
        )*}
    ) => {
        /// The page's fields as they are there, by the names of `vmclock-abi.h` in camel case. A field
        /// that the page's size does not cover is undefined.
        #[napi(object, object_from_js = false, js_name = "RawPage")]
        pub struct NativeRawPage {
            /// Unsigned 32-bit: bytes of the region that holds the structure. Fields beyond it do not
            /// exist.
            #[napi(readonly)]
            pub size: u32,
            /// Unsigned 32-bit, even; it grows by 2 with every update, and wraps.
            #[napi(readonly)]
            pub seq_count: u32,
            $(#[doc = $every_doc] #[napi(readonly)] pub $every: $every_js,)*
            $(#[doc = $sized_doc] #[napi(readonly)] pub $sized: Either<$sized_js, ()>,)*
        }

        impl From<&Snapshot> for NativeRawPage {
            fn from(snapshot: &Snapshot) -> Self {
                Self {
                    size: snapshot.size_bytes,
                    seq_count: snapshot.seq_count,
                    $($every: snapshot.raw.$every.into(),)*
                    $($sized: own(
                        snapshot
                            .covers(field::$sized_constant)
                            .then(|| snapshot.raw.$sized.into()),
                    ),)*
                }
            }
        }

        /// Any subset of the page's fields, by the names of `vmclock-abi.h` in camel case.
        #[napi(object, object_to_js = false)]
        pub struct NativePageFields {
            /// Unsigned 32-bit; 0x4b4c4356, `VCLK`.
            pub magic: Option<u32>,
            /// Unsigned 32-bit: bytes of the region that holds the structure.
            pub size: Option<u32>,
            /// Unsigned 32-bit, odd while an update is in progress. Only `create` and `writeUnguarded`
            /// take it.
            pub seq_count: Option<u32>,
            $(#[doc = $every_doc] pub $every: Option<$every_js>,)*
            $(#[doc = $sized_doc] pub $sized: Option<$sized_js>,)*
        }

        impl NativePageFields {
            /// Writes the given fields over `header` and `fields`; all or nothing.
            fn apply(
                self,
                header: &mut PageHeader,
                fields: &mut RawFields,
            ) -> std::result::Result<(), Failure> {
                let mut changed = *fields;
                $(if let Some(value) = self.$every {
                    changed.$every = converted(stringify!($every), value)?;
                })*
                $(if let Some(value) = self.$sized {
                    changed.$sized = converted(stringify!($sized), value)?;
                })*
                header.magic = self.magic.unwrap_or(header.magic);
                header.size = self.size.unwrap_or(header.size);
                *fields = changed;
                Ok(())
            }
        }

        /// The fields of `NativePageFields`.
        #[napi]
        pub fn page_field_types() -> Vec<NativeFieldType> {
            vec![
                NativeFieldType::of::<u32, u32>("magic"),
                NativeFieldType::of::<u32, u32>("size"),
                NativeFieldType::of::<u32, u32>("seq_count"),
                $(NativeFieldType::of::<$every_js, $every_type>(stringify!($every)),)*
                $(NativeFieldType::of::<$sized_js, $sized_type>(stringify!($sized)),)*
            ]
        }
    };
}
page_fields!(field_objects);

/// The type and range of a field of the page.
#[napi(object, object_from_js = false)]
pub struct NativeFieldType {
    #[napi(ts_type = "keyof NativePageFields")]
    pub name: String,
    /// True for an unsigned 64-bit bigint, false for a whole number in the range.
    pub is_bigint: bool,
    pub least: f64,
    pub most: f64,
}

impl NativeFieldType {
    fn of<Js, T: JsField<Js>>(name: &str) -> Self {
        let (least, most) = T::RANGE;
        Self {
            name: camel_case(name),
            is_bigint: most == 0.0,
            least,
            most,
        }
    }
}

/// Returns the name that a field has in JavaScript.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |joined, word| {
        let (initial, rest) = word.split_at(1);
        joined + &initial.to_uppercase() + rest
    })
}

/// One consistent state of a page, decoded. Properties that the page does not have are undefined.
#[napi(object, object_from_js = false)]
pub struct NativeSnapshot {
    pub counter: BigInt,
    pub age_ns: Either<BigInt, ()>,
    pub disruption_marker: BigInt,
    pub vm_generation: Either<BigInt, ()>,
    pub time_type: String,
    pub clock_status: Either<String, ()>,
    pub smearing_hint: Either<String, ()>,
    pub leap_indicator: Either<String, ()>,
    pub tai_minus_utc_sec: Either<i32, ()>,
    pub max_error_ns: Either<BigInt, ()>,
    pub est_error_ns: Either<BigInt, ()>,
    pub disruption_soon: bool,
    pub disruption_imminent: bool,
    pub time_monotonic: bool,
    pub notification_present: bool,
    pub bound_unavailable: Either<NativeNoBound, ()>,
    pub raw: NativeRawPage,
}

impl From<Snapshot> for NativeSnapshot {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            counter: snapshot.counter.into(),
            age_ns: own(snapshot.age_ns.map(BigInt::from)),
            disruption_marker: snapshot.raw.disruption_marker.into(),
            vm_generation: own(snapshot.vm_generation().map(BigInt::from)),
            time_type: snapshot.time_type().to_string(),
            clock_status: text(snapshot.clock_status()),
            smearing_hint: text(snapshot.smearing_hint()),
            leap_indicator: text(snapshot.leap_indicator()),
            tai_minus_utc_sec: own(snapshot.tai_minus_utc_sec().map(i32::from)),
            max_error_ns: own(snapshot.time_max_error_ns().map(BigInt::from)),
            est_error_ns: own(snapshot.time_est_error_ns().map(BigInt::from)),
            disruption_soon: snapshot.is_disruption_soon(),
            disruption_imminent: snapshot.is_disruption_imminent(),
            time_monotonic: snapshot.is_time_monotonic(),
            notification_present: snapshot.has_notification(),
            bound_unavailable: own(snapshot.no_bound().map(NativeNoBound::from)),
            raw: (&snapshot).into(),
        }
    }
}

/// Why a published page states no bound.
#[napi(object, object_from_js = false)]
pub struct NativeNoBound {
    pub reason: String,
    pub updates_left: Either<u32, ()>,
}

impl From<NoBound> for NativeNoBound {
    fn from(no_bound: NoBound) -> Self {
        Self {
            reason: no_bound.name().into_owned(),
            updates_left: own(no_bound.updates_left().map(u32::from)),
        }
    }
}

/// Makes an own property that may be undefined. napi leaves out the property of an `Option` that is `None`,
/// so JavaScript could find one on a prototype instead.
pub(crate) fn own<T>(value: Option<T>) -> Either<T, ()> {
    value.map_or(Either::B(()), Either::A)
}

/// Makes an own property of a value's text, which may be undefined.
pub(crate) fn text(value: Option<impl ToString>) -> Either<String, ()> {
    own(value.map(|value| value.to_string()))
}

#[napi(object, object_to_js = false, use_nullable = true)]
pub struct NativePageLayout {
    pub file_bytes: Option<f64>,
    pub page_offset: Option<f64>,
    pub mode: Option<u32>,
}

impl From<NativePageLayout> for PageLayout {
    fn from(layout: NativePageLayout) -> Self {
        let default = Self::default();
        // The facade let only whole numbers from 0 to 2^53 through, which the cast keeps.
        Self {
            file_bytes: layout
                .file_bytes
                .map_or(default.file_bytes, |bytes| bytes as u64),
            page_offset: layout
                .page_offset
                .map_or(default.page_offset, |bytes| bytes as u64),
            mode: layout.mode.unwrap_or(default.mode),
        }
    }
}

#[napi]
pub struct NativePage {
    writer: RefCell<Option<PageWriter>>,
    path: String,
}

#[napi]
pub fn create_page(
    path: String,
    fields: NativePageFields,
    layout: NativePageLayout,
) -> Outcome<NativePage> {
    outcome(NativePage::create(&path, fields, layout))
}

#[napi]
pub fn open_page(path: String, page_offset: f64) -> Outcome<NativePage> {
    outcome(PageWriter::open(Path::new(&path), page_offset as u64).map(NativePage::new))
}

#[napi]
impl NativePage {
    fn new(writer: PageWriter) -> Self {
        let path = writer.path().to_string_lossy().into_owned();
        Self {
            writer: RefCell::new(Some(writer)),
            path,
        }
    }

    fn create(
        path: &str,
        given: NativePageFields,
        layout: NativePageLayout,
    ) -> std::result::Result<Self, Failure> {
        let seq_count = given.seq_count;
        let mut header = PageHeader::default();
        let mut fields = blank();
        given.apply(&mut header, &mut fields)?;
        let mut writer = PageWriter::create(Path::new(path), &layout.into(), header, &fields)?;
        if let Some(seq_count) = seq_count {
            writer.store_unguarded(header, &fields, seq_count);
        }
        Ok(Self::new(writer))
    }

    fn with<T>(
        &self,
        call: impl FnOnce(&mut PageWriter) -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        match self.writer.borrow_mut().as_mut() {
            Some(writer) => call(writer),
            None => Err(Failure::closed("page")),
        }
    }

    #[napi(getter)]
    pub fn path(&self) -> String {
        self.path.clone()
    }

    #[napi]
    pub fn seq_count(&self) -> Outcome<u32> {
        outcome(self.with(|writer| Ok(writer.seq_count())))
    }

    #[napi]
    pub fn write(&self, fields: NativePageFields) -> Outcome<()> {
        outcome(self.with(|writer| {
            let given_header = fields.magic.is_some() || fields.size.is_some();
            if given_header || fields.seq_count.is_some() {
                return Err(Error::InvalidArgument {
                    reason: "magic, size and seqCount do not change under the sequence number"
                        .into(),
                    remedy: Some("use writeUnguarded"),
                }
                .into());
            }
            let mut changed = writer.fields();
            fields.apply(&mut writer.header(), &mut changed)?;
            writer.update(|stored| *stored = changed);
            Ok(())
        }))
    }

    #[napi]
    pub fn write_unguarded(&self, fields: NativePageFields) -> Outcome<()> {
        outcome(self.with(|writer| {
            let seq_count = fields.seq_count.unwrap_or_else(|| writer.seq_count());
            let (mut header, mut changed) = (writer.header(), writer.fields());
            fields.apply(&mut header, &mut changed)?;
            writer.store_unguarded(header, &changed, seq_count);
            Ok(())
        }))
    }

    #[napi]
    pub fn begin(&self) -> Outcome<()> {
        outcome(self.with(|writer| {
            writer.begin();
            Ok(())
        }))
    }

    #[napi]
    pub fn end(&self) -> Outcome<()> {
        outcome(self.with(|writer| {
            writer.end();
            Ok(())
        }))
    }

    #[napi]
    pub fn close(&self) {
        drop(self.writer.take());
    }
}
