//! The BME280.

use bme280_rs::{AsyncBme280, Configuration, Oversampling, Sample, SensorMode};
use embassy_time::Delay;
use embedded_hal_async::i2c::I2c;
use tidegate_telemetry::Fixed;

/// What it says.
pub(crate) struct Measured {
    pub(crate) temperature: Fixed<2>,
    pub(crate) humidity: Fixed<1>,
    pub(crate) pressure: u32,
}

/// The sensor, which may be plugged in later.
pub(crate) struct Sensor<B> {
    chip: AsyncBme280<B, Delay>,
    is_set: bool,
}

impl<B: I2c> Sensor<B> {
    pub(crate) fn new(bus: B) -> Sensor<B> {
        Sensor { chip: AsyncBme280::new(bus, Delay), is_set: false }
    }

    /// Measures once; what is wrong if that cannot be done.
    pub(crate) async fn measure(&mut self) -> Result<Measured, &'static str> {
        let sample = self.sample().await;
        self.is_set = sample.is_ok();
        let sample = sample.map_err(|_| "the BME280 does not answer")?;
        let Sample { temperature: Some(degrees), humidity: Some(percent), pressure: Some(pascal) } =
            sample
        else {
            return Err("the BME280 has measured nothing");
        };
        Ok(Measured {
            temperature: Fixed((degrees * 100.0) as i32),
            humidity: Fixed((percent * 10.0) as i32),
            pressure: pascal as u32,
        })
    }

    async fn sample(&mut self) -> Result<Sample, B::Error> {
        if !self.is_set {
            self.chip.init().await?;
            let once = Oversampling::Oversample1;
            let configuration = Configuration::default()
                .with_temperature_oversampling(once)
                .with_humidity_oversampling(once)
                .with_pressure_oversampling(once)
                .with_sensor_mode(SensorMode::Sleep);
            self.chip.set_sampling_configuration(configuration).await?;
        }
        self.chip.take_forced_measurement().await?;
        self.chip.read_sample().await
    }
}
