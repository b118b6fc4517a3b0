//! Writing a page field by field: for tests, and for those who write hypervisors.

use std::cell::RefCell;
use std::path::Path;

use napi::bindgen_prelude::BigInt;
use napi_derive::napi;
use vmclock::Error;
use vmclock::snapshot::RawFields;
use vmclock::writer::{PageHeader, PageLayout, PageWriter, blank};

use crate::failure::{Failure, Outcome, outcome};

/// Any subset of the page's fields, by the header's names.
#[napi(object)]
#[derive(Default)]
pub struct NativePageFields {
    pub magic: Option<u32>,
    pub size: Option<u32>,
    pub version: Option<u32>,
    pub counter_id: Option<u32>,
    pub time_type: Option<u32>,
    pub seq_count: Option<u32>,
    pub disruption_marker: Option<BigInt>,
    pub flags: Option<BigInt>,
    pub clock_status: Option<u32>,
    pub leap_second_smearing_hint: Option<u32>,
    pub tai_offset_sec: Option<i32>,
    pub leap_indicator: Option<u32>,
    pub counter_period_shift: Option<u32>,
    pub counter_value: Option<BigInt>,
    pub counter_period_frac_sec: Option<BigInt>,
    pub counter_period_esterror_rate_frac_sec: Option<BigInt>,
    pub counter_period_maxerror_rate_frac_sec: Option<BigInt>,
    pub time_sec: Option<BigInt>,
    pub time_frac_sec: Option<BigInt>,
    pub time_esterror_nanosec: Option<BigInt>,
    pub time_maxerror_nanosec: Option<BigInt>,
    pub vm_generation_counter: Option<BigInt>,
}

/// A value that does not fit its field.
fn range(field: &str) -> Failure {
    Failure::argument(&format!("{field} does not fit its field in the page"))
}

impl NativePageFields {
    /// Writes what is given over `fields` and `header`; all or nothing.
    fn apply(
        self,
        header: &mut PageHeader,
        fields: &mut RawFields,
    ) -> std::result::Result<(), Failure> {
        let mut changed = *fields;
        macro_rules! small {
            ($($name:ident),* $(,)?) => {
                $(if let Some(value) = self.$name {
                    changed.$name = value.try_into().map_err(|_| range(stringify!($name)))?;
                })*
            };
        }
        macro_rules! wide {
            ($($name:ident),* $(,)?) => {
                $(if let Some(value) = self.$name {
                    let (negative, word, lossless) = value.get_u64();
                    if negative || !lossless {
                        return Err(range(stringify!($name)));
                    }
                    changed.$name = word;
                })*
            };
        }
        small!(
            version,
            counter_id,
            time_type,
            clock_status,
            leap_second_smearing_hint
        );
        small!(tai_offset_sec, leap_indicator, counter_period_shift);
        wide!(
            disruption_marker,
            flags,
            counter_value,
            counter_period_frac_sec
        );
        wide!(
            counter_period_esterror_rate_frac_sec,
            counter_period_maxerror_rate_frac_sec
        );
        wide!(
            time_sec,
            time_frac_sec,
            time_esterror_nanosec,
            time_maxerror_nanosec
        );
        wide!(vm_generation_counter);
        if let Some(magic) = self.magic {
            header.magic = magic;
        }
        if let Some(size) = self.size {
            header.size = size;
        }
        *fields = changed;
        Ok(())
    }
}

#[napi(object)]
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
