#!/bin/sh
# Makes the certificates of the unit tests: sh make.sh, in this directory.
set -e
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 \
  -subj "/CN=Tidegate test authority" -keyout ca.key -out ca.pem
issue() { # name, subject, subject alternative name
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$2" \
    -keyout "$1.key" -out "$1.csr"
  printf 'subjectAltName=%s\n' "$3" > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -days 36500 -extfile "$1.ext" -out "$1.pem"
  rm "$1.csr" "$1.ext"
}
issue server "/CN=localhost" "DNS:localhost,IP:127.0.0.1"
issue sensor "/O=Plant/CN=sensor-1" \
  "DNS:sensor-1.plant.example,DNS:s1.plant.example,URI:urn:dev:sensor-1,email:sensor-1@plant.example"
issue two-names "/CN=sensor-1/CN=sensor-2" "DNS:x.example"
openssl x509 -in sensor.pem -outform DER | openssl dgst -sha256 -r | cut -d' ' -f1 > sensor.sha256
rm ca.key sensor.key two-names.key
